//! TCP: streams, acks and windows, beginnings and ends.

use super::{Entry, entry};
use crate::case::{Case, Flag, IpVersion, Isns, Packet, Time, ack, fin, rst, seg, syn, syn_ack};

/// Apart far enough to be seen in this order.
const P: u64 = 10;
const S: u64 = 20;

fn open() -> Case {
    Case::v4().p(0.ms(), syn_ack()).s(5.ms(), syn_ack())
}

/// After the handshake, the primary's packets, then the secondary's; each side in one write.
fn then(
    case: Case,
    primary: impl IntoIterator<Item = Packet>,
    secondary: impl IntoIterator<Item = Packet>,
) -> Case {
    let case = primary.into_iter().fold(case, |case, packet| case.p(P.ms(), packet));
    secondary.into_iter().fold(case, |case, packet| case.s(S.ms(), packet))
}

fn plain(primary: impl IntoIterator<Item = Packet>, secondary: impl IntoIterator<Item = Packet>) -> Case {
    then(open(), primary, secondary)
}

/// Content: what is sent by whom, and how it is cut.
pub(super) fn streams() -> Vec<Entry> {
    vec![
        entry("equal segments", &[], plain([seg(0..10)], [seg(0..10)])),
        entry(
            "equal segments, the secondary's first",
            &[],
            open().s(P.ms(), seg(0..10)).p(S.ms(), seg(0..10)),
        ),
        entry("the primary's segment is cut in two", &["Q8"], plain([seg(0..5), seg(5..10)], [seg(0..10)])),
        entry("the secondary's segment is cut in two", &["Q8"], plain([seg(0..10)], [seg(0..5), seg(5..10)])),
        entry(
            "5+5+5 bytes against 7+8",
            &["Q8"],
            plain([seg(0..5), seg(5..10), seg(10..15)], [seg(0..7), seg(7..15)]),
        ),
        entry("a byte differs", &[], plain([seg(0..10)], [seg(0..10).with_byte(4, 0xEE)])),
        entry(
            "a byte differs, and both go on",
            &[],
            plain([seg(0..10), seg(10..20)], [seg(0..10).with_byte(4, 0xEE), seg(10..20)]),
        ),
        entry(
            "the primary sends again what has left",
            &["Q7"],
            plain([seg(0..10)], [seg(0..10)]).p(30.ms(), seg(0..10).ip_id(7)),
        ),
        entry(
            "the primary sends again, with more behind it",
            &["Q7"],
            plain([seg(0..10)], [seg(0..10)]).p(30.ms(), seg(0..20)).s(40.ms(), seg(10..20)),
        ),
        entry(
            "the secondary sends again",
            &[],
            plain([seg(0..10)], [seg(0..10), seg(0..10)]).p(30.ms(), seg(10..20)).s(40.ms(), seg(10..20)),
        ),
        entry("the secondary's segments overlap", &["Q9"], plain([seg(0..20)], [seg(0..10), seg(5..20)])),
        entry(
            "the primary's segments come out of order",
            &["D3"],
            plain([seg(10..20), seg(0..10)], [seg(0..10), seg(10..20)]),
        ),
        entry(
            "the secondary's segments come out of order",
            &["Q9"],
            plain([seg(0..10), seg(10..20)], [seg(10..20), seg(0..10)]),
        ),
        entry(
            "the secondary's first segment is lost",
            &["Q9"],
            plain([seg(0..10), seg(10..20)], [seg(10..20)]),
        ),
        entry("the secondary is silent", &[], plain([seg(0..10)], [])),
        entry("the primary is silent", &[], plain([], [seg(0..10)])),
        entry(
            "a super-frame of 20,000 bytes against segments",
            &["Q8"],
            plain([seg(0..20_000)], segments(20_000, 1_448)),
        ),
        entry(
            "segments against a super-frame of 20,000 bytes",
            &["Q8"],
            plain(segments(20_000, 1_448), [seg(0..20_000)]),
        ),
        entry("jumbo frames", &[], plain([seg(0..8_900)], [seg(0..8_900)])),
    ]
}

/// What else stands in a segment, and what carries it.
pub(super) fn fields() -> Vec<Entry> {
    let six = Case::new(IpVersion::V6).p(0.ms(), syn_ack()).s(5.ms(), syn_ack());
    vec![
        entry("the urgent pointer differs", &["Q13"], plain([seg(0..10).urgent(4)], [seg(0..10).urgent(8)])),
        entry(
            "PSH, ECE and CWR differ",
            &[],
            plain([seg(0..10).flag(Flag::Psh)], [seg(0..10).flag(Flag::Ece).flag(Flag::Cwr)]),
        ),
        entry(
            "IP ID and TTL differ",
            &[],
            plain([seg(0..10).ip_id(5).ttl(64)], [seg(0..10).ip_id(900).ttl(63)]),
        ),
        entry(
            "timestamps differ",
            &[],
            plain([seg(0..10).timestamps(5, 6)], [seg(0..10).timestamps(900, 6)]),
        ),
        entry("SACK blocks differ", &[], plain([seg(0..10).sack(100, 200)], [seg(0..10)])),
        entry("TCP checksum of the primary is wrong", &[], plain([seg(0..10).bad_checksum()], [seg(0..10)])),
        entry("IPv6, equal segments", &[], then(six.clone(), [seg(0..10)], [seg(0..10)])),
        entry("IPv6, a byte differs", &["Q11"], then(six, [seg(0..10)], [seg(0..10).with_byte(4, 0xEE)])),
        entry("sequence numbers wrap inside a segment", &[], wrapping(u32::MAX - 4)),
        entry("a segment ends at sequence number 0", &[], wrapping(u32::MAX - 10)),
    ]
}

fn segments(bytes: i64, size: i64) -> Vec<Packet> {
    (0..bytes)
        .step_by(usize::try_from(size).expect("a size"))
        .map(|from| seg(from..(from + size).min(bytes)))
        .collect()
}

fn wrapping(isn: u32) -> Case {
    let case = Case::v4().isns(isn, isn).p(0.ms(), syn_ack()).s(5.ms(), syn_ack());
    then(case, [seg(0..10)], [seg(0..10)]).p(30.ms(), seg(10..20)).s(40.ms(), seg(10..20))
}

/// Acks and windows.
pub(super) fn acks() -> Vec<Entry> {
    vec![
        entry("equal pure acks", &[], plain([ack(100)], [ack(100)])),
        entry(
            "a pure ack of the primary only, not ahead",
            &["Q7"],
            plain([ack(100)], [ack(100)]).p(30.ms(), ack(100).ip_id(9)),
        ),
        entry("a pure ack ahead of the secondary's", &["Q6"], plain([ack(100)], [ack(50)])),
        entry(
            "a pure ack ahead, the secondary follows 50 ms later",
            &["Q6", "Q10"],
            plain([ack(100)], [ack(50)]).s(70.ms(), ack(100)),
        ),
        entry(
            "equal data, the primary's ack ahead",
            &["Q6"],
            plain([seg(0..10).ack(100)], [seg(0..10).ack(50)]),
        ),
        entry(
            "equal data, the secondary's ack ahead",
            &[],
            plain([seg(0..10).ack(50)], [seg(0..10).ack(100)]),
        ),
        entry(
            "equal data, the secondary's ack 50 ms later",
            &["Q6", "Q10"],
            plain([seg(0..10).ack(100)], [seg(0..10).ack(50)]).s(70.ms(), ack(100)),
        ),
        entry(
            "three duplicate acks of the primary, one of the secondary",
            &["Q7"],
            plain([ack(100), ack(100).ip_id(1), ack(100).ip_id(2)], [ack(100)]),
        ),
        entry("the secondary acks more often", &["Q10"], plain([ack(100)], [ack(50), ack(70), ack(100)])),
        entry(
            "keep-alive of the primary",
            &["Q7"],
            plain([seg(0..10)], [seg(0..10)]).p(30.ms(), ack(0).at(9)),
        ),
        entry(
            "the primary's window is larger",
            &["Q14"],
            plain([seg(0..10).window(50_000)], [seg(0..10).window(20_000)])
                .p(30.ms(), seg(10..20).ack(20_000).window(64_000))
                .s(40.ms(), seg(10..20).ack(20_000).window(30_000)),
        ),
        entry(
            "acks on either side of 2^32",
            &["Q6"],
            then(
                Case::v4().client_isn(u32::MAX - 50).p(0.ms(), syn_ack()).s(5.ms(), syn_ack()),
                [seg(0..10).ack(100)],
                [seg(0..10).ack(40)],
            ),
        ),
    ]
}

/// SYN, FIN, RST, and connections that begin where nobody saw it.
pub(super) fn ends() -> Vec<Entry> {
    vec![
        entry(
            "sequence numbers of the guests' own",
            &["D1"],
            then(own_numbers(), [seg(0..10)], [seg(0..10)]),
        ),
        entry(
            "own sequence numbers in the SYN/ACK, translated behind it",
            &[],
            then(own_numbers().secondary_translated(), [seg(0..10)], [seg(0..10)]),
        ),
        entry(
            "MSS differs",
            &["Q12"],
            syns(syn_ack().without_options().mss(1_460), syn_ack().without_options().mss(1_400)),
        ),
        entry("window scale differs", &["Q12"], syns(syn_ack().wscale(7), syn_ack().wscale(2))),
        entry(
            "timestamps of the SYN/ACK differ",
            &[],
            syns(syn_ack().timestamps(1, 2), syn_ack().timestamps(900, 2)),
        ),
        entry(
            "the SYN/ACK is sent again by the primary",
            &[],
            open().p(P.ms(), syn_ack().ip_id(3)).p(30.ms(), seg(0..10)).s(40.ms(), seg(0..10)),
        ),
        entry("the SYN/ACK is the secondary's only", &[], Case::v4().s(0.ms(), syn_ack())),
        entry("the guests connect out", &[], syns(syn(), syn())),
        entry("SYN with data", &[], Case::v4().p(0.ms(), syn_ack().data(10)).s(5.ms(), syn_ack().data(10))),
        entry("FIN of both", &[], plain([seg(0..10), fin()], [seg(0..10), fin()])),
        entry(
            "FIN with the data against FIN behind it",
            &["Q8"],
            plain([seg(0..10).fin()], [seg(0..10), fin()]),
        ),
        entry(
            "FIN behind the data against FIN with it",
            &["Q8"],
            plain([seg(0..10), fin()], [seg(0..10).fin()]),
        ),
        entry("FIN at another place", &["D2"], plain([seg(0..10), fin()], [seg(0..5), fin()])),
        entry("FIN of the primary only", &[], plain([seg(0..10), fin()], [seg(0..10)])),
        entry("FIN of the secondary only", &[], plain([seg(0..10)], [seg(0..10), fin()])),
        entry("RST of both", &[], plain([rst()], [rst()])),
        entry("RST of the primary only", &[], plain([rst()], [])),
        entry(
            "RST of the secondary only, the primary goes on",
            &["D2"],
            plain([seg(0..10), seg(10..20)], [rst()]),
        ),
        entry("RST against FIN", &["Q15"], plain([rst()], [fin()])),
        entry("a connection whose beginning nobody saw", &[], mid_stream()),
        entry("ports used again", &[], port_reuse(5_000_000)),
        entry("ports used again with a lower sequence number", &[], port_reuse(1_000)),
    ]
}

fn own_numbers() -> Case {
    Case::v4().isns(1_000_000, 77_000_000).p(0.ms(), syn_ack()).s(5.ms(), syn_ack())
}

/// These SYNs, and ten bytes behind them.
fn syns(primary: Packet, secondary: Packet) -> Case {
    let case = Case::v4().p(0.ms(), primary).s(5.ms(), secondary);
    then(case, [seg(0..10).ack(0)], [seg(0..10).ack(0)])
}

fn mid_stream() -> Case {
    let case = Case::v4().p(0.ms(), seg(0..10).ack(40)).s(5.ms(), seg(0..10).ack(40));
    then(case, [seg(10..20).ack(40)], [seg(10..20).ack(40)])
}

fn port_reuse(isn: u32) -> Case {
    let isns = Isns { primary: isn, secondary: isn, client: 9_000_000 };
    let case = Case::v4().new_incarnation(isns).p(0.ms(), syn_ack()).s(5.ms(), syn_ack());
    let case = then(case, [seg(0..10), fin()], [seg(0..10), fin()]);
    let case = case.p(30.ms(), ack(1)).s(35.ms(), ack(1));
    let case = case.p(40.ms(), syn_ack().of(1)).s(45.ms(), syn_ack().of(1));
    case.p(50.ms(), seg(0..10).of(1)).s(60.ms(), seg(0..10).of(1))
}
