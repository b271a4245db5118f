//! What the TCP part promises about SYN options, windows, urgent data, and connections that open or close from both
//! sides: cases 21 to 23, 26, 30, 33 to 35, 45, 46 and 53. Frames are built here, header by header, because these cases
//! are about header fields; the released capture is read for what became of the window.

use colo_tests::case::{Format, Time, Verdict, decode, encode};
use colo_tests::process;
use etherparse::{NetHeaders, PacketBuilder, PacketHeaders, TcpHeader, TcpOptionElement, TransportHeader};

const ISN: u32 = u32::MAX - 5;
const CLIENT: u32 = 7_000_000;

/// Address family of a talk.
#[derive(Clone, Copy, Debug)]
enum Ip {
    V4,
    V6,
}

/// A segment: flags as letters, numbers relative to both ISNs.
#[derive(Clone)]
struct Tcp(TcpHeader, Vec<u8>);

/// `at` counts from the byte behind the SYN; letters are S, F, R, A, U.
fn tcp(flags: &str, at: u32, payload: &[u8]) -> Tcp {
    let mut header = TcpHeader::new(80, 4242, ISN.wrapping_add(1).wrapping_add(at), 1000);
    header.syn = flags.contains('S');
    header.fin = flags.contains('F');
    header.rst = flags.contains('R');
    header.ack = flags.contains('A');
    header.acknowledgment_number = if header.ack { CLIENT } else { 0 };
    Tcp(header, payload.to_vec())
}

fn syn_ack() -> Tcp {
    tcp("SA", u32::MAX, b"")
}

impl Tcp {
    fn window(mut self, window: u16) -> Self {
        self.0.window_size = window;
        self
    }

    fn ack(mut self, bytes: u32) -> Self {
        self.0.acknowledgment_number = CLIENT + bytes;
        self
    }

    fn options(mut self, options: &[TcpOptionElement]) -> Self {
        self.0.set_options(options).expect("options fit");
        self
    }

    fn urgent(mut self, pointer: u16) -> Self {
        self.0.urg = true;
        self.0.urgent_pointer = pointer;
        self
    }

    fn frame(&self, ip: Ip) -> Vec<u8> {
        let link = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let network = match ip {
            Ip::V4 => link.ipv4([10, 0, 0, 1], [10, 0, 0, 9], 64),
            Ip::V6 => link.ipv6([0xfd; 16], [0xfe; 16], 64),
        };
        let mut frame = Vec::new();
        network.tcp_header(self.0.clone()).write(&mut frame, &self.1).expect("a segment fits");
        frame
    }
}

/// What both sides send, and when, in ms.
#[derive(Clone)]
struct Talk {
    ip: Ip,
    primary: Vec<(u64, Vec<u8>)>,
    secondary: Vec<(u64, Vec<u8>)>,
    set: Vec<&'static str>,
}

struct Outcome {
    verdicts: Vec<Verdict>,
    summary: serde_json::Value,
    /// Windows of the released frames, in order.
    windows: Vec<u16>,
}

fn on_both(check: impl Fn(Talk)) {
    for ip in [Ip::V4, Ip::V6] {
        check(Talk { ip, primary: Vec::new(), secondary: Vec::new(), set: Vec::new() });
    }
}

impl Talk {
    fn p(mut self, at_ms: u64, segment: &Tcp) -> Self {
        self.primary.push((at_ms, segment.frame(self.ip)));
        self
    }

    fn s(mut self, at_ms: u64, segment: &Tcp) -> Self {
        self.secondary.push((at_ms, segment.frame(self.ip)));
        self
    }

    fn both(self, at_ms: u64, segment: &Tcp) -> Self {
        self.p(at_ms, segment).s(at_ms, segment)
    }

    fn set(mut self, setting: &'static str) -> Self {
        self.set.push(setting);
        self
    }

    fn run(&self) -> Outcome {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        for (name, frames) in [("p", &self.primary), ("s", &self.secondary)] {
            let records: Vec<_> = frames.iter().map(|(at_ms, bytes)| (at_ms.ms(), bytes.clone())).collect();
            std::fs::write(path(name), encode(Format::PcapNs, &records)).expect("a capture");
        }
        let mut arguments: Vec<String> = vec!["replay".to_owned(), "--json".to_owned()];
        for (flag, name) in
            [("--primary", "p"), ("--secondary", "s"), ("--verdicts", "v"), ("--released", "out")]
        {
            arguments.extend([flag.to_owned(), path(name)]);
        }
        for setting in &self.set {
            arguments.extend(["--set".to_owned(), (*setting).to_owned()]);
        }
        let finished = process::run(&arguments);
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        let verdicts = std::fs::read_to_string(path("v")).expect("verdicts");
        let released = decode(&std::fs::read(path("out")).expect("released frames")).expect("a capture");
        Outcome {
            verdicts: Verdict::parse_all(&verdicts).expect("verdicts"),
            summary: serde_json::from_str(&finished.stdout).expect("a summary"),
            windows: released.records.iter().map(|(_, bytes)| window(bytes)).collect(),
        }
    }
}

/// The window of a released frame, whose checksum must be right.
fn window(bytes: &[u8]) -> u16 {
    let headers = PacketHeaders::from_ethernet_slice(bytes).expect("a frame");
    let Some(TransportHeader::Tcp(tcp)) = headers.transport else { panic!("not TCP") };
    let right = match headers.net.expect("IP") {
        NetHeaders::Ipv4(ip, _) => tcp.calc_checksum_ipv4(&ip, headers.payload.slice()),
        NetHeaders::Ipv6(ip, _) => tcp.calc_checksum_ipv6(&ip, headers.payload.slice()),
        NetHeaders::Arp(_) => panic!("not IP"),
    };
    assert_eq!(Ok(tcp.checksum), right, "checksum of a released frame");
    tcp.window_size
}

impl Outcome {
    /// When, in ms, and why each primary frame left.
    fn releases(&self) -> Vec<(usize, u64, &str)> {
        let release = |verdict: &Verdict| match verdict {
            Verdict::Release { at, frame, why, .. } => {
                Some((*frame, at.0 / 1_000_000, ["matched", "ack", "flush"].into_iter().find(|w| w == why)?))
            }
            _ => None,
        };
        self.verdicts.iter().filter_map(release).collect()
    }

    /// Kind and offset of each request.
    fn requests(&self) -> Vec<(u64, String, i64)> {
        let request = |verdict: &Verdict| match verdict {
            Verdict::Request { at, reason, detail, .. } => {
                let kind = detail["kind"].as_str().unwrap_or(reason).to_owned();
                Some((at.0 / 1_000_000, kind, detail["offset"].as_i64().unwrap_or(-1)))
            }
            _ => None,
        };
        self.verdicts.iter().filter_map(request).collect()
    }

    #[track_caller]
    fn is_quiet(&self) -> &Self {
        assert_eq!(self.requests(), [], "{:?}", self.verdicts);
        self
    }
}

#[test]
fn case_21_own_window_update_waits_for_the_secondarys() {
    on_both(|talk| {
        let talk = talk.both(0, &syn_ack()).s(1, &tcp("A", 0, b"").ack(50).window(500));
        let update = tcp("A", 0, b"").ack(50).window(1400);
        let talk = talk.p(2, &update).p(3, &tcp("A", 0, b"").ack(50).window(1300));
        let reached = talk.clone().s(9, &tcp("A", 0, b"").ack(50).window(1400)).run();
        assert_eq!(reached.is_quiet().releases()[1..], [(1, 9, "ack"), (2, 9, "ack")]);
        assert_eq!(reached.windows, [1000, 1400, 1300]);
        assert_eq!(reached.summary["window_clamped"], 0);
        // The SYN's edge, 1000, is the highest that the secondary has offered.
        let never = talk.run();
        assert_eq!(never.is_quiet().releases()[1..], [(1, 22, "ack"), (2, 23, "ack")]);
        assert_eq!(never.windows, [1000, 950, 950]);
        assert_eq!(never.summary["window_clamped"], 2);
        let at_once = talk.set("window_grace=0").run();
        assert_eq!(at_once.releases()[1..], [(1, 2, "ack"), (2, 3, "ack")]);
    });
}

#[test]
fn case_22_own_larger_window_leaves_clamped_with_data() {
    on_both(|talk| {
        let scaled = syn_ack().options(&[TcpOptionElement::Noop, TcpOptionElement::WindowScale(4)]).window(0);
        let talk = talk.both(0, &scaled).p(1, &tcp("A", 0, b"0123456789").window(5000));
        let talk = talk.s(2, &tcp("A", 0, b"0123456789").window(300));
        let outcome = talk.run();
        assert_eq!(outcome.is_quiet().releases(), [(0, 0, "matched"), (1, 2, "matched")]);
        assert_eq!(outcome.windows, [0, 300]);
        assert_eq!(talk.clone().set("window_policy=ignore").run().windows, [0, 5000]);
        assert_eq!(talk.set("ignore=window").run().windows, [0, 5000]);
    });
}

#[test]
fn case_23_own_zero_window_of_the_secondary() {
    on_both(|talk| {
        let talk = talk.both(0, &syn_ack().window(100)).both(1, &tcp("A", 0, b"").ack(60).window(40));
        // The client has filled the secondary's window, the primary has read what came.
        let talk = talk.s(10, &tcp("A", 0, b"").ack(100).window(0));
        let talk = talk.p(11, &tcp("A", 0, b"").ack(100).window(900));
        let talk = talk.s(40, &tcp("A", 0, b"").ack(100).window(700));
        let outcome = talk.p(41, &tcp("A", 0, b"").ack(100).window(900)).run();
        assert_eq!(outcome.is_quiet().releases()[2..], [(2, 31, "ack"), (3, 61, "ack")]);
        assert_eq!(outcome.windows, [100, 40, 0, 700]);
    });
}

#[test]
fn case_26_own_window_scale_differs() {
    on_both(|talk| {
        let offers =
            |scale| syn_ack().options(&[TcpOptionElement::Noop, TcpOptionElement::WindowScale(scale)]);
        let talk = talk.p(0, &offers(2)).s(1, &offers(4));
        let talk = talk.p(10, &tcp("A", 0, b"").window(4000)).s(11, &tcp("A", 0, b"").window(500));
        let outcome = talk.clone().run();
        assert_eq!(outcome.requests(), [(1, "syn-options".to_owned(), 0)]);
        assert_eq!(outcome.releases()[0], (0, 6, "flush"));
        // 4000 × 4 against 500 × 16.
        for setting in ["syn_options=ignore", "ignore=window-scale"] {
            let outcome = talk.clone().set(setting).run();
            assert_eq!(outcome.is_quiet().windows, [1000, 2000], "{setting}");
            assert_eq!(outcome.releases()[1], (1, 30, "ack"));
        }
        assert_eq!(talk.set("ignore=mss").run().requests().len(), 1);
    });
}

#[test]
fn case_30_own_mss_or_sack_permitted_differ_in_either_order() {
    on_both(|talk| {
        let plain = syn_ack().options(&[TcpOptionElement::MaximumSegmentSize(1460)]);
        let others = [
            syn_ack().options(&[TcpOptionElement::MaximumSegmentSize(1400)]),
            syn_ack(),
            syn_ack().options(&[
                TcpOptionElement::MaximumSegmentSize(1460),
                TcpOptionElement::SelectiveAcknowledgementPermitted,
            ]),
            syn_ack()
                .options(&[TcpOptionElement::MaximumSegmentSize(1460), TcpOptionElement::Timestamp(1, 0)]),
        ];
        for other in &others {
            for talk in [talk.clone().p(0, &plain).s(1, other), talk.clone().s(0, &plain).p(1, other)] {
                let outcome = talk.clone().run();
                assert_eq!(outcome.requests(), [(1, "syn-options".to_owned(), 0)]);
                assert_eq!(outcome.releases(), [(0, 6, "flush")]);
                talk.set("syn_options=ignore").run().is_quiet();
            }
        }
        // A retry that offers less is not judged.
        let retried = talk.both(0, &plain).s(500, &others[1]).p(501, &others[1]).run();
        assert_eq!(retried.is_quiet().releases()[1], (1, 501, "matched"));
    });
}

#[test]
fn case_33_own_syn_with_data() {
    on_both(|talk| {
        let talk = talk.p(0, &tcp("SA", u32::MAX, b"hello")).s(1, &tcp("SA", u32::MAX, b"hel"));
        let outcome = talk.clone().s(2, &tcp("A", 3, b"lo")).run();
        assert_eq!(outcome.is_quiet().releases(), [(0, 2, "matched")]);
        let outcome = talk.s(2, &tcp("A", 3, b"la")).run();
        assert_eq!(outcome.requests(), [(2, "payload".to_owned(), 4)]);
    });
}

#[test]
fn case_34_own_active_open() {
    on_both(|talk| {
        let talk = talk.p(0, &tcp("S", u32::MAX, b"")).s(3, &tcp("S", u32::MAX, b""));
        let talk = talk.p(5, &tcp("A", 0, b"")).s(6, &tcp("A", 0, b"")).both(7, &tcp("A", 0, b"GET"));
        let outcome = talk.run();
        assert_eq!(outcome.is_quiet().releases(), [(0, 3, "matched"), (1, 6, "ack"), (2, 7, "matched")]);
    });
}

#[test]
fn case_35_own_simultaneous_open() {
    on_both(|talk| {
        let talk = talk.both(0, &tcp("S", u32::MAX, b"")).p(1, &syn_ack()).s(4, &syn_ack());
        let outcome = talk.clone().both(5, &tcp("A", 0, b"data")).run();
        assert_eq!(outcome.is_quiet().releases(), [(0, 0, "matched"), (1, 4, "matched"), (2, 5, "matched")]);
        // The secondary answers first.
        let talk = Talk { primary: Vec::new(), secondary: Vec::new(), ..talk };
        let talk = talk.both(0, &tcp("S", u32::MAX, b"")).s(1, &syn_ack()).p(4, &syn_ack());
        let outcome = talk.both(5, &tcp("A", 0, b"data")).run();
        assert_eq!(outcome.is_quiet().releases(), [(0, 0, "matched"), (1, 4, "matched"), (2, 5, "matched")]);
    });
}

#[test]
fn case_45_own_simultaneous_close() {
    on_both(|talk| {
        // Both ends send a FIN; each guest acknowledges the client's behind its own.
        let talk = talk.both(0, &syn_ack()).p(1, &tcp("FA", 0, b"")).s(2, &tcp("FA", 0, b""));
        let talk = talk.p(3, &tcp("A", 1, b"").ack(1)).s(4, &tcp("A", 1, b"").ack(1));
        // The linger: the client's FIN comes again, and the last ACK with it.
        let talk = talk.both(900, &tcp("A", 1, b"").ack(1));
        let outcome = talk.run();
        let expected = [(0, 0, "matched"), (1, 2, "matched"), (2, 4, "ack"), (3, 900, "ack")];
        assert_eq!(outcome.is_quiet().releases(), expected);
    });
}

#[test]
fn case_46_own_half_close_goes_on_being_compared() {
    on_both(|talk| {
        // The client has closed its half: its FIN is acknowledged, and the guests go on.
        let talk = talk.both(0, &syn_ack()).both(1, &tcp("A", 0, b"").ack(1));
        let equal = talk.clone().p(2, &tcp("A", 0, b"rest").ack(1)).s(3, &tcp("A", 0, b"rest").ack(1)).run();
        assert_eq!(equal.is_quiet().releases()[2], (2, 3, "matched"));
        let differs = talk.p(2, &tcp("A", 0, b"rest").ack(1)).s(3, &tcp("A", 0, b"rust").ack(1)).run();
        assert_eq!(differs.requests(), [(3, "payload".to_owned(), 1)]);
    });
}

#[test]
fn case_53_own_urgent_position_of_one_side_only() {
    on_both(|talk| {
        let talk = talk.both(0, &syn_ack());
        let (calm, urgent) = (tcp("A", 0, b"0123456789"), tcp("A", 0, b"0123456789").urgent(10));
        for (primary, secondary) in [(&urgent, &calm), (&calm, &urgent)] {
            for talk in
                [talk.clone().p(1, primary).s(2, secondary), talk.clone().s(1, secondary).p(2, primary)]
            {
                let outcome = talk.clone().run();
                assert_eq!(outcome.requests(), [(2, "urgent".to_owned(), 10)]);
                assert_eq!(outcome.releases()[1], (1, 7, "flush"));
                talk.set("ignore=urgent").run().is_quiet();
            }
        }
        // Other pointers: the lower one counts.
        let outcome = talk.p(1, &urgent).s(2, &tcp("A", 0, b"0123456789").urgent(7)).run();
        assert_eq!(outcome.requests(), [(2, "urgent".to_owned(), 7)]);
    });
}

#[test]
fn case_53_own_urgent_position_over_cuts_and_retransmissions() {
    on_both(|talk| {
        let talk = talk.both(0, &syn_ack()).p(1, &tcp("A", 0, b"01234").urgent(10));
        let talk = talk.s(2, &tcp("A", 0, b"01234"));
        // The secondary has not come that far: the primary's announcement waits.
        let talk = talk.p(3, &tcp("A", 5, b"56789").urgent(5)).s(4, &tcp("A", 5, b"56789").urgent(5));
        let talk = talk.both(5, &tcp("A", 0, b"0123456789").urgent(10)).both(6, &tcp("A", 10, b"more"));
        let outcome = talk.run();
        let expected =
            [(0, 0, "matched"), (1, 4, "matched"), (2, 4, "matched"), (3, 5, "matched"), (4, 6, "matched")];
        assert_eq!(outcome.is_quiet().releases(), expected);
    });
}
