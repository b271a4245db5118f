//! Keys of what is compared and what is not, beside the rules: class policies and leave for masks.

use super::keys::Key;
use super::value::{Shown, boolean, choice};
use crate::policy::Action;
use crate::rx::VerifyChecksums;
use crate::wire::{Class, Tunnels};

/// Words for what becomes of frames.
pub(super) const ACTIONS: [(&str, Action); 3] =
    [("compare", Action::Compare), ("pass", Action::Pass), ("hold", Action::Hold)];
/// Nothing can be said of a malformed frame, so there is nothing to compare.
const ACTIONS_OF_MALFORMED: [(&str, Action); 2] = [("pass", Action::Pass), ("hold", Action::Hold)];

const CHECKSUMS: [(&str, VerifyChecksums); 2] =
    [("off", VerifyChecksums::Off), ("count", VerifyChecksums::Count)];

const TUNNELS: [(&str, Tunnels); 2] = [("opaque", Tunnels::Opaque), ("inner", Tunnels::Inner)];

/// The row of a class.
macro_rules! class {
    ($name:literal, $class:ident, $words:ident, $meaning:literal) => {
        Key {
            name: $name,
            meaning: $meaning,
            example: "\"pass\"",
            set: |s, v| choice(v, &$words).map(|action| s.policy.classes.set(Class::$class, action)),
            show: |s| Shown::word(&s.policy.classes.of(Class::$class), &ACTIONS),
        }
    };
}

/// The keys, in the order `dump-config` prints them.
pub(super) static POLICY_KEYS: [Key; 10] = [
    class!(
        "class.arp",
        Arp,
        ACTIONS,
        "ARP: \"pass\" (uncompared), \"compare\", or \"hold\" (to the next checkpoint)"
    ),
    class!("class.nd", NeighbourDiscovery, ACTIONS, "IPv6 neighbour discovery, likewise"),
    class!("class.mld", MulticastListener, ACTIONS, "IPv6 multicast listener discovery, likewise"),
    class!("class.igmp", Igmp, ACTIONS, "IPv4 group management, likewise"),
    class!("class.lldp", Lldp, ACTIONS, "link layer discovery, likewise"),
    class!("class.other", Other, ACTIONS, "other frames that are not IP, likewise"),
    class!(
        "class.malformed",
        Malformed,
        ACTIONS_OF_MALFORMED,
        "truncated or contradictory frames: \"pass\" or \"hold\"; there is nothing to compare"
    ),
    Key {
        name: "tunnels",
        meaning: "\"opaque\": VXLAN and GRE are compared as datagrams; \"inner\": the packets in them, by flows of their own",
        example: "\"inner\"",
        set: |s, v| choice(v, &TUNNELS).map(|tunnels| s.compare.tunnels = tunnels),
        show: |s| Shown::word(&s.compare.tunnels, &TUNNELS),
    },
    Key {
        name: "allow_unsafe_masks",
        meaning: "whether rules may mask payload: what is masked is not compared, and a failover may show it",
        example: "true",
        set: |s, v| boolean(v).map(|flag| s.policy.allow_unsafe_masks = flag),
        show: |s| Shown::Boolean(s.policy.allow_unsafe_masks),
    },
    Key {
        name: "verify_checksums",
        meaning: "\"count\": frames with a wrong checksum are counted, which reads every byte; \"off\": not looked at",
        example: "\"count\"",
        set: |s, v| choice(v, &CHECKSUMS).map(|checksums| s.policy.verify_checksums = checksums),
        show: |s| Shown::word(&s.policy.verify_checksums, &CHECKSUMS),
    },
];
