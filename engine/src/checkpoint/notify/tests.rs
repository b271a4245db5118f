//! The notifier against a peer that speaks, stutters and vanishes.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Instant;

use super::*;
use crate::verdict::{Cause, Detail, Reason};

const MS: Duration = Duration::from_millis(1);
/// What QEMU puts on the wire and expects there.
const DO_CHECKPOINT_ON_WIRE: &[u8] = b"\x00\x00\x00\x0d\x44\x4f\x5f\x43\x48\x45\x43\x4b\x50\x4f\x49\x4e\x54";
const CHECKPOINT_ON_WIRE: &[u8] =
    b"\x00\x00\x00\x0f\x43\x4f\x4c\x4f\x5f\x43\x48\x45\x43\x4b\x50\x4f\x49\x4e\x54";
const INIT_ON_WIRE: &[u8] = b"\x00\x00\x00\x19COLO_USERSPACE_PROXY_INIT";
const ANSWER_ON_WIRE: &[u8] = b"\x00\x00\x00\x19COLO_COMPARE_GET_XEN_INIT";

/// A back end and a clock that goes on 1 ms a poll.
struct Bench {
    backend: NotifyBackend,
    now: Nanos,
}

impl Bench {
    fn on(address: &str, framing: Framing) -> Self {
        let backend = NotifyBackend::new(&address.parse().unwrap(), framing).unwrap();
        Self { backend, now: Nanos::ZERO }
    }

    /// Linked by a connected pair, the link's note read.
    fn pair(framing: Framing) -> (Self, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let backend = NotifyBackend::on(ChardevPort::from_stream(ours, framing, "pair")).unwrap();
        let mut bench = Self { backend, now: Nanos::ZERO };
        assert_eq!(bench.events(), [note("link up: pair")]);
        (bench, theirs)
    }

    /// All there is 1 ms later.
    fn events(&mut self) -> Vec<BackendEvent> {
        self.now = self.now + MS;
        std::iter::from_fn(|| self.backend.poll(self.now)).collect()
    }

    /// The next events, a test's whole life at most.
    fn wait(&mut self) -> Vec<BackendEvent> {
        let start = Instant::now();
        loop {
            let events = self.events();
            if !events.is_empty() {
                return events;
            }
            assert!(start.elapsed() < Duration::from_secs(10), "it never came");
            std::thread::sleep(MS / 20);
        }
    }

    fn linked(&mut self) {
        assert!(matches!(&self.wait()[..], [BackendEvent::Note(text)] if text.starts_with("link up: ")));
    }

    fn request(&mut self) {
        let cause = Cause { reason: Reason::Operator, at: self.now, flow: None, detail: Detail::None };
        self.backend.request(&Request { at: self.now, cause });
    }

    fn skip(&mut self, time: Duration) {
        self.now = self.now + time;
    }
}

fn note(text: &str) -> BackendEvent {
    BackendEvent::Note(text.to_owned())
}

fn alarm(text: &str) -> BackendEvent {
    BackendEvent::Alarm(text.to_owned())
}

/// What came, without waiting.
fn received(peer: &mut UnixStream) -> Vec<u8> {
    peer.set_nonblocking(true).unwrap();
    let mut bytes = Vec::new();
    let _ = peer.read_to_end(&mut bytes);
    bytes
}

fn place(folder: &tempfile::TempDir) -> (PathBuf, String) {
    let path = folder.path().join("notify");
    let address = format!("unix:{}", path.display());
    (path, address)
}

#[test]
fn a_request_and_its_commit_have_qemus_bytes() {
    let (mut bench, mut peer) = Bench::pair(Framing::Plain);
    bench.request();
    assert_eq!(received(&mut peer), DO_CHECKPOINT_ON_WIRE, "before the next poll");
    bench.request();
    assert_eq!(bench.events(), []);
    assert_eq!(received(&mut peer), b"", "one outstanding, no queue");
    peer.write_all(CHECKPOINT_ON_WIRE).unwrap();
    assert_eq!(bench.events(), [BackendEvent::Committed]);
    bench.skip(REPEAT_AFTER * 3);
    assert_eq!(bench.events(), []);
    assert_eq!(received(&mut peer), b"", "a commit has no answer and ends the repeating");
    assert_eq!(bench.backend.next_deadline(), None);
    bench.request();
    assert_eq!(received(&mut peer), DO_CHECKPOINT_ON_WIRE);
}

#[test]
fn a_commit_nobody_asked_for_is_told_too() {
    let (mut bench, mut peer) = Bench::pair(Framing::Plain);
    peer.write_all(&CHECKPOINT_ON_WIRE.repeat(2)).unwrap();
    assert_eq!(bench.events(), [BackendEvent::Committed, BackendEvent::Committed]);
}

#[test]
fn init_is_answered() {
    let (mut bench, mut peer) = Bench::pair(Framing::Plain);
    peer.write_all(INIT_ON_WIRE).unwrap();
    assert_eq!(bench.events(), []);
    assert_eq!(received(&mut peer), ANSWER_ON_WIRE);
}

#[test]
fn the_vnet_word_comes_and_never_goes() {
    let (mut bench, mut peer) = Bench::pair(Framing::VnetHeader);
    let with_word = |message: &[u8]| [&message[..4], &[0; 4], &message[4..]].concat();
    peer.write_all(&with_word(INIT_ON_WIRE)).unwrap();
    assert_eq!(bench.events(), []);
    bench.request();
    assert_eq!(received(&mut peer), [ANSWER_ON_WIRE, DO_CHECKPOINT_ON_WIRE].concat());
    peer.write_all(&with_word(CHECKPOINT_ON_WIRE)).unwrap();
    assert_eq!(bench.events(), [BackendEvent::Committed]);
}

#[test]
fn ends_that_disagree_on_the_vnet_word_are_told_what_to_check() {
    let (mut bench, mut peer) = Bench::pair(Framing::Plain);
    peer.write_all(b"\x00\x00\x00\x0f\x00\x00\x00\x00COLO_CHECKPOINT").unwrap();
    let said = format!("{:?}", bench.wait());
    assert!(said.contains("vnet_hdr_support") && said.contains("link down"), "{said}");
    let (mut bench, mut peer) = Bench::pair(Framing::VnetHeader);
    peer.write_all(CHECKPOINT_ON_WIRE).unwrap();
    let said = format!("{:?}", bench.wait());
    assert!(said.contains("vnet_hdr_support") && said.contains("link down"), "{said}");
}

#[test]
fn byte_by_byte() {
    for (framing, word) in [(Framing::Plain, &[][..]), (Framing::VnetHeader, &[0; 4])] {
        let (mut bench, mut peer) = Bench::pair(framing);
        for byte in [&CHECKPOINT_ON_WIRE[..4], word, &CHECKPOINT_ON_WIRE[4..]].concat() {
            assert_eq!(bench.events(), []);
            peer.write_all(&[byte]).unwrap();
        }
        assert_eq!(bench.events(), [BackendEvent::Committed]);
    }
}

#[test]
fn unknown_text_is_noted_and_nothing_else() {
    let (mut bench, mut peer) = Bench::pair(Framing::Plain);
    peer.write_all(b"\x00\x00\x00\x06WHAT\n\xff").unwrap();
    peer.write_all(b"\x00\x00\x00\x10COLO_CHECKPOINT\x00").unwrap();
    peer.write_all(CHECKPOINT_ON_WIRE).unwrap();
    let unknown = [
        alarm("unknown message \"WHAT\\n\\xff\""),
        alarm("unknown message \"COLO_CHECKPOINT\\x00\""),
        BackendEvent::Committed,
    ];
    assert_eq!(bench.events(), unknown);
    assert_eq!(received(&mut peer), b"");
    assert!(bench.backend.port.is_up());
}

#[test]
fn an_impossible_length_ends_the_link_and_the_next_peer_is_welcome() {
    let folder = tempfile::tempdir().unwrap();
    let (path, address) = place(&folder);
    let mut bench = Bench::on(&format!("{address},listen"), Framing::Plain);
    for length in [0_u32, 1_025, u32::MAX] {
        let mut peer = UnixStream::connect(&path).unwrap();
        bench.linked();
        // What came before it counts, and what was to be said to this peer dies with it.
        peer.write_all(&[INIT_ON_WIRE, CHECKPOINT_ON_WIRE, &length.to_be_bytes()].concat()).unwrap();
        let events = bench.wait();
        let [BackendEvent::Committed, BackendEvent::Alarm(text)] = &events[..] else { panic!("{events:?}") };
        let expected = format!("link down: sent a frame length of {length}, legal are 1 to 1024 bytes");
        assert!(text.starts_with(&expected), "{text}");
        assert_eq!(received(&mut peer), b"");
        assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0, "closed");
    }
    let mut peer = UnixStream::connect(&path).unwrap();
    bench.linked();
    peer.write_all(&[&1_024_u32.to_be_bytes()[..], &[b'x'; 1_024]].concat()).unwrap();
    assert!(matches!(&bench.wait()[..], [BackendEvent::Alarm(text)] if text.contains("unknown message")));
    assert_eq!(received(&mut peer), b"", "nothing was left for it");
    drop(bench);
    assert!(!path.exists(), "the socket file goes too");
}

#[test]
fn a_request_waits_for_the_link_and_is_made_again_on_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let (path, address) = place(&folder);
    let mut bench = Bench::on(&format!("{address},listen"), Framing::Plain);
    assert_eq!(bench.events(), []);
    bench.request();
    bench.skip(REPEAT_AFTER * 5);
    bench.request();
    assert_eq!(bench.events(), []);
    for _ in 0..3 {
        let mut peer = UnixStream::connect(&path).unwrap();
        bench.linked();
        assert_eq!(received(&mut peer), DO_CHECKPOINT_ON_WIRE, "once, however long it waited");
        drop(peer);
        assert_eq!(bench.wait(), [alarm("link down: closed by the other end")]);
    }
    let mut peer = UnixStream::connect(&path).unwrap();
    bench.linked();
    assert_eq!(received(&mut peer), DO_CHECKPOINT_ON_WIRE);
    peer.write_all(CHECKPOINT_ON_WIRE).unwrap();
    assert_eq!(bench.wait(), [BackendEvent::Committed]);
    drop(peer);
    bench.wait();
    let mut peer = UnixStream::connect(&path).unwrap();
    bench.linked();
    assert_eq!(received(&mut peer), b"", "committed: nothing to ask the next one");
}

#[test]
fn a_request_is_repeated_until_it_is_committed() {
    let (mut bench, mut peer) = Bench::pair(Framing::Plain);
    bench.request();
    assert_eq!(received(&mut peer), DO_CHECKPOINT_ON_WIRE);
    for _ in 0..3 {
        let due = bench.backend.next_deadline().unwrap();
        assert!(due.since(bench.now) <= REPEAT_AFTER);
        bench.now = due - MS * 2;
        assert_eq!(bench.events(), []);
        assert_eq!(received(&mut peer), b"", "not yet");
        assert_eq!(bench.events(), []);
        assert_eq!(received(&mut peer), DO_CHECKPOINT_ON_WIRE);
    }
    peer.write_all(CHECKPOINT_ON_WIRE).unwrap();
    bench.skip(REPEAT_AFTER);
    assert_eq!(bench.events(), [BackendEvent::Committed], "told before the repetition that is due");
    assert_eq!(bench.events(), []);
    assert_eq!(received(&mut peer), b"");
}

#[test]
fn a_peer_that_does_not_read_gets_no_heap_of_repetitions() {
    let (mut bench, mut peer) = Bench::pair(Framing::Plain);
    // Answers until the socket takes no more.
    while bench.backend.port.unsent_bytes() == 0 {
        peer.write_all(INIT_ON_WIRE).unwrap();
        assert_eq!(bench.events(), []);
    }
    bench.request();
    for _ in 0..20 {
        bench.skip(REPEAT_AFTER);
        assert_eq!(bench.events(), []);
    }
    assert!(bench.backend.next_deadline().unwrap().since(bench.now) <= FLUSH_EVERY);
    let mut got = received(&mut peer);
    assert_eq!(bench.events(), []);
    got.extend(received(&mut peer));
    let answers = (got.len() - DO_CHECKPOINT_ON_WIRE.len()) / ANSWER_ON_WIRE.len();
    assert_eq!(got, [ANSWER_ON_WIRE.repeat(answers), DO_CHECKPOINT_ON_WIRE.to_vec()].concat());
}

#[test]
fn a_peer_that_never_stops_talking_is_read_a_burst_at_a_time() {
    let (mut bench, mut peer) = Bench::pair(Framing::Plain);
    peer.write_all(&CHECKPOINT_ON_WIRE.repeat(100)).unwrap();
    for count in [32, 32, 32] {
        assert_eq!(bench.events().len(), count);
        assert_eq!(bench.backend.next_deadline(), Some(Nanos(bench.now.0 + 1)), "there is more");
    }
    assert_eq!(bench.events().len(), 4);
    assert_eq!(bench.backend.next_deadline(), None);
}

#[test]
fn connecting_goes_on_until_somebody_listens() {
    let folder = tempfile::tempdir().unwrap();
    let (path, address) = place(&folder);
    let mut bench = Bench::on(&address, Framing::Plain);
    bench.request();
    let events = bench.events();
    let [BackendEvent::Note(text)] = &events[..] else { panic!("{events:?}") };
    assert!(text.starts_with(&format!("cannot connect to {address}: ")), "{text}");
    let next = bench.backend.next_deadline().unwrap();
    assert_eq!(next, bench.now + Duration::from_millis(200));
    bench.now = next;
    assert_eq!(bench.events(), [], "the same obstacle is told once");
    let server = UnixListener::bind(&path).unwrap();
    bench.now = bench.backend.next_deadline().unwrap();
    bench.linked();
    let (mut peer, _) = server.accept().unwrap();
    assert_eq!(received(&mut peer), DO_CHECKPOINT_ON_WIRE);
}

#[test]
fn tcp_both_ways() {
    let port = ChardevPort::new(&"tcp:127.0.0.1:0,listen".parse().unwrap()).unwrap();
    let mut bench = Bench { backend: NotifyBackend::on(port).unwrap(), now: Nanos::ZERO };
    let address = format!("tcp:{}", bench.backend.port.local_addr().unwrap());
    let mut other = Bench::on(&address, Framing::Plain);
    let up = other.wait();
    assert_eq!(up, [note(&format!("link up: {address}"))]);
    bench.linked();
    bench.request();
    // The other is a comparer too and knows no request.
    assert_eq!(other.wait(), [alarm("unknown message \"DO_CHECKPOINT\"")]);
}

#[test]
fn an_address_that_cannot_be_had_is_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let address = format!("unix:{}/no/folder,listen", folder.path().display());
    let error = NotifyBackend::new(&address.parse().unwrap(), Framing::Plain).unwrap_err().to_string();
    assert!(
        error.starts_with("cannot listen on unix:") && error.ends_with("; make its folder first"),
        "{error}"
    );
}
