//! Rules against a matcher that is written the long way, masks against examples.

use proptest::prelude::*;

use super::*;
use crate::flow::{Addresses, Selector, VlanTags};

/// What a flow is, in plain numbers: IPv4 addresses end in the given bytes.
#[derive(Clone, Copy, Debug)]
struct Plain {
    protocol: u8,
    guest: u8,
    peer: u8,
    ports: [u16; 2],
    vlan: Option<u16>,
}

impl Plain {
    fn key(self) -> FlowKey {
        let address = |last: u8| 0x0a00_0000 | u32::from(last);
        let mut vlan = VlanTags::default();
        if let Some(tag) = self.vlan {
            assert!(vlan.push(tag));
        }
        let [source, destination] = self.ports;
        let selector =
            if self.protocol == 1 { Selector::None } else { Selector::Ports { source, destination } };
        let addresses = Addresses::V4 { source: address(self.guest), destination: address(self.peer) };
        FlowKey::new(addresses, vlan, self.protocol, selector)
    }
}

/// A rule in plain numbers.
#[derive(Clone, Debug)]
struct PlainRule {
    protocol: Option<u8>,
    guest: Option<(u8, u8)>,
    guest_ports: Vec<(u16, u16)>,
    peer_ports: Vec<(u16, u16)>,
    vlan: Option<u16>,
    action: Action,
}

impl PlainRule {
    fn rule(&self) -> Rule {
        let ports = |ranges: &[(u16, u16)]| {
            let texts: Vec<_> = ranges.iter().map(|(first, last)| format!("{first}-{last}")).collect();
            if texts.is_empty() { PortRanges::default() } else { texts.join(",").parse().unwrap() }
        };
        Rule {
            protocol: self.protocol.map_or(Protocol::Any, Protocol::Number),
            guest: self.guest.map(|(last, host)| {
                let last = (u16::from(last) >> host) << host;
                format!("10.0.0.{last}/{}", 32 - host).parse().unwrap()
            }),
            guest_ports: ports(&self.guest_ports),
            peer_ports: ports(&self.peer_ports),
            vlan: self.vlan,
            action: self.action,
            ..Rule::default()
        }
    }

    fn has(&self, flow: Plain) -> bool {
        let in_ports = |ranges: &[(u16, u16)], port: u16| {
            let listed = ranges.iter().any(|(first, last)| (*first..=*last).any(|one| one == port));
            ranges.is_empty() || (flow.protocol != 1 && listed)
        };
        let network = |(last, host): (u8, u8)| u16::from(last) >> host == u16::from(flow.guest) >> host;
        self.protocol.is_none_or(|protocol| protocol == flow.protocol)
            && self.guest.is_none_or(network)
            && in_ports(&self.guest_ports, flow.ports[0])
            && in_ports(&self.peer_ports, flow.ports[1])
            && (self.vlan.is_none() || self.vlan == flow.vlan)
    }
}

fn ports() -> impl Strategy<Value = Vec<(u16, u16)>> {
    prop::collection::vec((0_u16..20, 0_u16..4).prop_map(|(first, more)| (first, first + more)), 0..3)
}

fn rule() -> impl Strategy<Value = PlainRule> {
    let actions = prop::sample::select(vec![Action::Compare, Action::Pass, Action::Hold]);
    let protocol = prop::option::of(prop::sample::select(vec![1_u8, 6, 17]));
    let guest = prop::option::of((0_u8..8, 0_u8..=8));
    (protocol, guest, ports(), ports(), prop::option::of(0_u16..3), actions).prop_map(
        |(protocol, guest, guest_ports, peer_ports, vlan, action)| PlainRule {
            protocol,
            guest,
            guest_ports,
            peer_ports,
            vlan,
            action,
        },
    )
}

fn flow() -> impl Strategy<Value = Plain> {
    let protocol = prop::sample::select(vec![1_u8, 6, 17]);
    (protocol, 0_u8..8, 0_u8..8, [0_u16..24, 0_u16..24], prop::option::of(0_u16..3))
        .prop_map(|(protocol, guest, peer, ports, vlan)| Plain { protocol, guest, peer, ports, vlan })
}

proptest! {
    #[test]
    fn the_first_rule_that_matches_counts(
        rules in prop::collection::vec(rule(), 0..6),
        flows in prop::collection::vec(flow(), 1..20),
    ) {
        let compiled = rules.iter().map(PlainRule::rule).collect();
        let set = RuleSet::new(CompareSettings::default(), ClassPolicies::default(), compiled).unwrap();
        for flow in flows {
            let expected = rules.iter().position(|rule| rule.has(flow));
            let ruling = set.ruling(&flow.key());
            prop_assert_eq!(ruling.rule.place(), expected);
            let action = expected.map_or(Action::Compare, |place| rules[place].action);
            prop_assert_eq!(ruling.action, action);
        }
    }

    /// Byte by byte, what a range masks does not count and all else does.
    #[test]
    fn masked_ranges_are_forgiven_and_nothing_else(
        ranges in prop::collection::vec((0_u32..40, 1_u32..8), 0..5),
        one in prop::collection::vec(0_u8..2, 40),
        other in prop::collection::vec(0_u8..2, 40),
    ) {
        let mut mask = PayloadMask::default();
        for (offset, length) in &ranges {
            mask.add_range(*offset, *length).unwrap();
        }
        let masked = |at: u32| ranges.iter().any(|(offset, length)| (*offset..offset + length).contains(&at));
        let differing = (0_u32..40).filter(|at| one[usize::try_from(*at).unwrap()] != other[usize::try_from(*at).unwrap()]);
        let counts = differing.clone().find(|at| !masked(*at));
        let expected = match counts {
            Some(at) => Some(Masked::DiffersAt(i64::from(at))),
            None => differing.clone().next().map(|_| Masked::Forgiven),
        };
        let windows = [&one, &other].map(|bytes| Window { bytes, start: 0 });
        prop_assert_eq!(compare(Some(&mask), &[], windows, 0..40), expected);
        let [mine, theirs] = [&one, &other].map(|bytes| counting_parts(bytes, &[], Some(&mask)).collect::<Vec<_>>());
        prop_assert_eq!(mine == theirs, counts.is_none());
    }
}

fn window(bytes: &[u8], start: i64) -> Window<'_> {
    Window { bytes, start }
}

#[test]
fn an_expression_forgives_where_both_sides_match_the_same_stretch() {
    let mut mask = PayloadMask::default();
    mask.add_expression("Date: [^\r]*").unwrap();
    let one = b"200\r\nDate: Mon 1\r\nbody";
    let other = b"200\r\nDate: Tue 2\r\nbody";
    let whole = 0..i64::try_from(one.len()).unwrap();
    let look = |other: &[u8]| compare(Some(&mask), &[], [window(one, 0), window(other, 0)], whole.clone());
    assert_eq!(look(other), Some(Masked::Forgiven));
    assert_eq!(look(b"200\r\nDate: Tue 2\r\nbodY"), Some(Masked::DiffersAt(21)));
    assert_eq!(look(b"200\r\nDate: Tue \r\r\nbody"), Some(Masked::DiffersAt(11)), "the match is shorter");
    assert_eq!(look(b"200\r\nData: Tue 2\r\nbody"), Some(Masked::DiffersAt(8)), "no match at all");
    // Cut elsewhere: the second frame begins five bytes later in the stream.
    let cut = [window(one, 0), window(&other[5..], 5)];
    assert_eq!(compare(Some(&mask), &[], cut, 5..16), Some(Masked::Forgiven));
    let cut = [window(one, 0), window(&other[7..], 7)];
    assert_eq!(compare(Some(&mask), &[], cut, 7..16), Some(Masked::DiffersAt(11)), "cut inside the match");
}

#[test]
fn masks_are_bounded_and_say_so() {
    let mut mask = PayloadMask::default();
    assert_eq!(mask.add_range(3, 0), Err(MaskError::EmptyRange));
    for at in 0..16 {
        mask.add_range(at * 4, 2).unwrap();
    }
    assert_eq!(mask.add_range(100, 1), Err(MaskError::TooManyRanges));
    mask.add_range(1, 4).unwrap();
    assert_eq!(mask.ranges()[0], 0..6, "what touches is one range");
    assert_eq!(mask.add_expression("a*"), Err(MaskError::MatchesEmpty("a*".to_owned())));
    assert!(matches!(mask.add_expression("(a"), Err(MaskError::Expression { .. })));
    let large = "[a-z]{1,400}x[0-9a-f]{300}y.{0,500}z";
    assert_eq!(mask.add_expression(large), Err(MaskError::TooLarge(large.to_owned())));
    for _ in 0..MAX_EXPRESSIONS {
        mask.add_expression("x").unwrap();
    }
    assert_eq!(mask.add_expression("y"), Err(MaskError::TooManyExpressions));
}

#[test]
fn matches_of_a_hostile_payload_are_bounded() {
    let mut mask = PayloadMask::default();
    mask.add_expression("a").unwrap();
    let one = [b'a'; 4096];
    let mut other = one;
    other[4000] = b'b';
    let windows = [window(&one, 0), window(&other, 0)];
    assert_eq!(compare(Some(&mask), &[], windows, 0..4096), Some(Masked::DiffersAt(4000)));
}

#[test]
fn words_are_read_and_written_alike() {
    for text in ["any", "tcp", "udp", "icmp", "icmpv6", "89"] {
        assert_eq!(text.parse::<Protocol>().unwrap().to_string(), text);
    }
    for text in ["80", "80,443,8000-8100"] {
        assert_eq!(text.parse::<PortRanges>().unwrap().to_string(), text);
    }
    for text in ["10.0.0.0/8", "10.1.2.3/32", "0.0.0.0/0", "fd00::/8", "::/0"] {
        assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
    }
    for text in ["10.0.0.1/8", "10.0.0.0/33", "fd00::1/64", "guest", "", "10.0.0.0/"] {
        assert!(text.parse::<Network>().is_err(), "{text}");
    }
    for text in ["", "80-", "90-80", "65536", "http"] {
        assert!(text.parse::<PortRanges>().is_err(), "{text}");
    }
    assert!("256".parse::<Protocol>().is_err() && "TCP".parse::<Protocol>().is_err());
}

#[test]
fn a_class_has_its_policy_and_rules_are_for_the_rest() {
    let mut classes = ClassPolicies::default();
    classes.set(Class::Arp, Action::Hold);
    let all = Rule { action: Action::Pass, ..Rule::default() };
    let set = RuleSet::new(CompareSettings::default(), classes, vec![all.clone()]).unwrap();
    let arp = FlowKey::of_link(Class::Arp, [2; 6], [255; 6], 0x0806, VlanTags::default());
    assert_eq!(set.ruling(&arp), Ruling { action: Action::Hold, rule: RuleIndex::NONE });
    assert!(RuleSet::new(CompareSettings::default(), classes, vec![all; 257]).is_err());
}
