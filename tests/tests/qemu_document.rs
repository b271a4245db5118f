//! docs/QEMU.md shows what `colo qemu-args` prints, and not what it once printed.
#![forbid(unsafe_code)]

use std::path::Path;

use colo_tests::process::run;

/// Stands in front of the command that printed the block behind it.
const MARKER: &str = "<!-- printed by: colo ";

/// Each command's arguments, and the block that follows it.
fn blocks(document: &str) -> Vec<(Vec<&str>, &str)> {
    let parts = document.split(MARKER).skip(1);
    let block = |part| {
        let (command, rest): (&str, &str) = str::split_once(part, " -->\n").expect("the marker's end");
        let block = rest.strip_prefix("```sh\n").expect("a block of shell behind the marker");
        let (block, _) = block.split_once("```").expect("the block's end");
        (command.split_whitespace().collect(), block)
    };
    parts.map(block).collect()
}

#[test]
fn the_document_shows_what_the_command_prints() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/QEMU.md");
    let document = std::fs::read_to_string(document).expect("docs/QEMU.md");
    let blocks = blocks(&document);
    assert_eq!(blocks.len(), 2, "one block for each node");
    for (arguments, block) in blocks {
        let finished = run(&arguments);
        finished.expect_code(0).unwrap_or_else(|error| panic!("{arguments:?}: {error:#}"));
        assert_eq!(
            finished.stdout, block,
            "docs/QEMU.md, behind the marker of {arguments:?}, must show the left"
        );
    }
}

#[test]
fn a_stale_block_is_found() {
    let found = blocks("x <!-- printed by: colo qemu-args primary -->\n```sh\nold\n```\n");
    assert_eq!(found, [(vec!["qemu-args", "primary"], "old\n")]);
}
