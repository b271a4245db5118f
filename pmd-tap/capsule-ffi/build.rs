//! Compiles the shim against the installed DPDK and names the four libraries it calls. Drivers are none of them: DPDK
//! loads those itself when it starts.

use std::process::Command;

/// The DPDK that the layouts in `src/sys.rs` are those of; the shim's assertions hold them against the headers.
const OLDEST: &str = "22.11";
/// The first DPDK that nobody has tried.
const TOO_NEW: &str = "23.0";

/// What to do about a missing or another DPDK.
const HELP: &str = "the feature `dpdk` needs DPDK 22.11 with its headers: on Debian 12 `apt-get install libdpdk-dev \
                    pkg-config gcc`; without the feature colo builds without DPDK";

fn main() {
    println!("cargo:rerun-if-changed=src/shim.c");
    println!("cargo:rerun-if-env-changed=PKG_CONFIG_PATH");
    let range = format!("libdpdk >= {OLDEST} libdpdk < {TOO_NEW}");
    let flags = pkg_config(&["--cflags", &range]);
    let folders = pkg_config(&["--libs-only-L", "libdpdk"]);

    let mut build = cc::Build::new();
    build.file("src/shim.c").opt_level(2).define("_GNU_SOURCE", None).define("ALLOW_EXPERIMENTAL_API", None);
    for flag in flags.split_whitespace() {
        build.flag(flag);
    }
    build.warnings(true).flag("-Wno-unused-parameter").compile("capsule_ffi_shim");

    for folder in folders.split_whitespace().filter_map(|flag| flag.strip_prefix("-L")) {
        println!("cargo:rustc-link-search=native={folder}");
    }
    for library in ["rte_eal", "rte_ethdev", "rte_mbuf", "rte_mempool"] {
        println!("cargo:rustc-link-lib=dylib={library}");
    }
}

fn pkg_config(arguments: &[&str]) -> String {
    let program = std::env::var_os("PKG_CONFIG").unwrap_or_else(|| "pkg-config".into());
    let output = match Command::new(&program).args(arguments).output() {
        Ok(output) => output,
        Err(error) => panic!("cannot run {}: {error}; {HELP}", program.to_string_lossy()),
    };
    if !output.status.success() {
        panic!("{}\n{HELP}", String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8_lossy(&output.stdout).into_owned()
}
