//! Configurations to QEMU's arguments, and those that no pair can be made of.

use clap::Parser;

use super::super::{Cli, Command, USAGE, exit_code, sentence};
use super::*;

const SOCKETS: &str = "--primary-in tcp:127.0.0.1:9001 --secondary-in tcp:0.0.0.0:9004,listen \
    --out tcp:127.0.0.1:9005 --checkpoint qmp:unix:/run/colo/p.qmp,secondary=unix:/run/colo/s.qmp";

fn args(node: &str, rest: &str) -> Args {
    let line = format!("colo qemu-args {node} {rest}");
    match Cli::try_parse_from(line.split_whitespace()).expect(&line).command {
        Command::QemuArgs(args) => args,
        other => panic!("{other:?}"),
    }
}

fn arguments(node: &str, rest: &str) -> Vec<String> {
    let args = args(node, rest);
    args.pair().expect(rest).arguments(args.node)
}

fn refusal(node: &str, rest: &str) -> String {
    let error = args(node, rest).pair().err().expect(rest);
    assert_eq!(exit_code(&error), USAGE);
    sentence(&error)
}

fn text(node: &str, rest: &str) -> String {
    let args = args(node, rest);
    let pair = args.pair().expect(rest);
    script(&pair, args.node, &pair.arguments(args.node))
}

const PRIMARY: &str = r#"# The primary of a COLO pair with colo in the middle. Machine, memory, kernel and disks are yours, the same on
# both sides:  sh primary.sh -machine pc -m 256 -kernel ...
exec "${QEMU:-qemu-system-x86_64}" "$@" \
  -netdev tap,id=hn0,ifname=tapP,script=no,downscript=no,vhost=off \
  -device rtl8139,netdev=hn0,mac=52:54:00:12:34:56,romfile= \
  -chardev socket,id=mirror0,host=127.0.0.1,port=9003,server=on,wait=off,nodelay=on \
  -chardev socket,id=compare0,host=127.0.0.1,port=9001,server=on,wait=off,nodelay=on \
  -chardev socket,id=compare_out,host=127.0.0.1,port=9005,server=on,wait=off,nodelay=on \
  -object filter-mirror,id=m0,netdev=hn0,queue=tx,outdev=mirror0 \
  -object filter-redirector,id=redire0,netdev=hn0,queue=rx,indev=compare_out \
  -object filter-redirector,id=redire1,netdev=hn0,queue=rx,outdev=compare0 \
  -qmp unix:/run/colo/p.qmp,server=on,wait=off \
  -qmp unix:/run/colo/primary-own.qmp,server=on,wait=off

# To start COLO, after the secondary, say to the monitor unix:/run/colo/primary-own.qmp:
# {"execute":"qmp_capabilities"}
# {"execute":"migrate-set-capabilities","arguments":{"capabilities":[{"capability":"x-colo","state":true}]}}
# {"execute":"migrate","arguments":{"uri":"unix:/run/colo/migration.sock"}}

# When the secondary is lost, say to that monitor:
# {"execute":"qmp_capabilities"}
# {"execute":"x-colo-lost-heartbeat"}

# And to take the engine out of the guest's way after that:
# {"execute":"object-del","arguments":{"id":"redire1"}}
# {"execute":"object-del","arguments":{"id":"redire0"}}
# {"execute":"object-del","arguments":{"id":"m0"}}
# {"execute":"chardev-remove","arguments":{"id":"compare0"}}
# {"execute":"chardev-remove","arguments":{"id":"compare_out"}}
# {"execute":"chardev-remove","arguments":{"id":"mirror0"}}"#;

const SECONDARY: &str = r#"# The secondary of a COLO pair with colo in the middle. Machine, memory, kernel and disks are yours, the same on
# both sides:  sh secondary.sh -machine pc -m 256 -kernel ...
exec "${QEMU:-qemu-system-x86_64}" "$@" \
  -netdev tap,id=hn0,ifname=tapS,script=no,downscript=no,vhost=off \
  -device rtl8139,netdev=hn0,mac=52:54:00:12:34:56,romfile= \
  -chardev socket,id=red0,host=127.0.0.1,port=9003,reconnect=1,nodelay=on \
  -chardev socket,id=red1,host=127.0.0.1,port=9004,reconnect=1,nodelay=on \
  -object filter-redirector,id=f1,netdev=hn0,queue=tx,indev=red0 \
  -object filter-redirector,id=f2,netdev=hn0,queue=rx,outdev=red1 \
  -object filter-rewriter,id=rew0,netdev=hn0,queue=all \
  -qmp unix:/run/colo/s.qmp,server=on,wait=off \
  -qmp unix:/run/colo/secondary-own.qmp,server=on,wait=off \
  -incoming unix:/run/colo/migration.sock

# To start COLO, before the primary, say to the monitor unix:/run/colo/secondary-own.qmp:
# {"execute":"qmp_capabilities"}
# {"execute":"migrate-set-capabilities","arguments":{"capabilities":[{"capability":"x-colo","state":true}]}}

# When the primary is lost, say to that monitor:
# {"execute":"qmp_capabilities"}
# {"execute":"x-colo-lost-heartbeat"}
# {"execute":"object-del","arguments":{"id":"f2"}}
# {"execute":"object-del","arguments":{"id":"f1"}}
# {"execute":"chardev-remove","arguments":{"id":"red1"}}
# {"execute":"chardev-remove","arguments":{"id":"red0"}}"#;

#[test]
fn both_scripts_are_as_they_are_known_to_work() {
    assert_eq!(text("primary", SOCKETS), PRIMARY);
    assert_eq!(text("secondary", SOCKETS), SECONDARY);
}

#[test]
fn who_listens_is_the_opposite_of_the_engine() {
    let sockets = "--primary-in unix:/p,listen --secondary-in unix:/s --out tcp:[::]:9005,listen \
        --checkpoint qmp:tcp:[::]:7000,listen --engine-host fd00::1 --mirror unix:/m";
    let primary = arguments("primary", sockets).join(" ");
    for expected in [
        "socket,id=compare0,path=/p,reconnect=1 ",
        "socket,id=compare_out,host=fd00::1,port=9005,reconnect=1,nodelay=on ",
        "socket,id=mirror0,path=/m,server=on,wait=off ",
        "-qmp tcp:[fd00::1]:7000,reconnect=1 -qmp unix:/run/colo/primary-own.qmp,server=on,wait=off",
    ] {
        assert!(primary.contains(expected), "{expected} in {primary}");
    }
    let secondary = arguments("secondary", sockets).join(" ");
    for expected in ["socket,id=red0,path=/m,reconnect=1 ", "socket,id=red1,path=/s,server=on,wait=off "] {
        assert!(secondary.contains(expected), "{expected} in {secondary}");
    }
    assert_eq!(secondary.matches("-qmp").count(), 1, "the engine does not listen to it: {secondary}");
}

#[test]
fn virtio_headers_are_every_filters() {
    let rest = format!("{SOCKETS} --set vnet_hdr_support=true --device virtio-net-pci --memory 512");
    for (node, filters) in [("primary", 3), ("secondary", 3)] {
        let arguments = arguments(node, &rest);
        let with = arguments.iter().filter(|value| value.ends_with(",vnet_hdr_support=on")).count();
        assert_eq!(with, filters, "{arguments:?}");
        assert_eq!(arguments[..2], ["-m", "512"]);
    }
}

#[test]
fn a_pair_that_cannot_work_is_refused_in_a_sentence() {
    let ports = |primary: &str, secondary: &str, out: &str| {
        format!("--primary-in {primary} --secondary-in {secondary} --out {out} --checkpoint none")
    };
    for (rest, said) in [
        (
            ports("pcap:p", "unix:/s", "unix:/o"),
            "--primary-in is pcap:p, and QEMU cannot be at the other end",
        ),
        (
            ports("unix:/p,vnet", "unix:/s", "unix:/o,vnet"),
            "write ,vnet behind all three ports or behind none",
        ),
        (ports("unix:/p", "unix:/p,listen", "unix:/o"), "has the address unix:/p, and so has"),
        (
            format!("{SOCKETS} --mirror tcp:127.0.0.1:9001"),
            "--mirror has the address tcp:127.0.0.1:9001, and so has",
        ),
        (
            format!("{SOCKETS} --mirror unix:/m,listen"),
            "--mirror unix:/m,listen has an option, but takes none",
        ),
        (format!("{SOCKETS} --migration tcp:0.0.0.0:9"), "write the name of the secondary's machine"),
        (format!("{SOCKETS} --migration /m"), "--migration /m has no known kind in front"),
        (format!("{SOCKETS} --monitor unix:/run/colo/p.qmp"), "and so has --monitor; give each its own"),
        (
            format!("{SOCKETS} --device virtio-net-pci"),
            "write ,vnet behind all three ports, or set vnet_hdr_support",
        ),
        (
            format!("{SOCKETS} --device rtl8139,x=y"),
            "--device is \"rtl8139,x=y\", but must be letters, digits",
        ),
        (format!("{SOCKETS} --mac 52:54:00"), "--mac is \"52:54:00\", but must be six pairs"),
        ("--primary-in unix:/p".to_owned(), "--secondary-in is missing"),
    ] {
        let told = refusal("primary", &rest);
        assert!(told.contains(said), "{told}");
    }
}

#[test]
fn all_addresses_are_for_who_listens() {
    let mirror = format!("{SOCKETS} --mirror tcp:0.0.0.0:9003");
    assert!(arguments("primary", &mirror).join(" ").contains("id=mirror0,host=0.0.0.0,port=9003,server=on"));
    assert!(refusal("secondary", &mirror).contains("write the name of the primary's machine"));
    let migration = format!("{SOCKETS} --migration tcp:[::]:9006");
    assert!(arguments("secondary", &migration).ends_with(&["tcp:[::]:9006".to_owned()]));
}

#[test]
fn words_are_quoted_for_the_shell() {
    assert_eq!(quoted("unix:/a,server=on"), "unix:/a,server=on");
    assert_eq!(quoted("path=/my vm's"), r"'path=/my vm'\''s'");
    assert_eq!(quoted("tcp:[::1]:4"), "'tcp:[::1]:4'");
}
