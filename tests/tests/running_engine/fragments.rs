//! Fragments through the threads: put together at the inputs, compared as wholes, let out as they came, and flushed in
//! order of arrival whether their datagrams are whole or not.

use std::time::Duration;

use anyhow::{Context, Result};
use colo_engine::verdict::Reason;
use colo_tests::case::{cut, piece};
use colo_tests::wait::until;
use etherparse::PacketBuilder;

use super::rig::{Books, LAYOUTS, LIMIT, Live, Name, ensure_that, frame, patient};

const FLOWS: u16 = 32;

/// A datagram of a flow that needs fragments.
fn long(flow: u16, number: u8) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .udp(7_000, 10_000 + flow)
        .write(&mut frame, &[number; 3_000])
        .expect("a Vec takes everything");
    frame
}

#[test]
fn fragments_cut_differently_match_and_leave_as_they_came() -> Result<()> {
    for layout in LAYOUTS {
        let mut live = Live::start(&patient(layout))?;
        let (mut primary, mut secondary) = (Vec::new(), Vec::new());
        for number in 0..20 {
            for flow in 0..FLOWS {
                let whole = long(flow, number);
                let identification = u16::from(number) * FLOWS + flow;
                primary.push(cut(&whole, identification, &[1_000, 2_000]));
                secondary.push(cut(&whole, 60_000 - identification, &[1_480]));
            }
        }
        for some in primary.chunks(64) {
            live.primary.send_frames(some.iter().flatten().cloned())?;
        }
        for some in secondary.chunks(64) {
            live.secondary.send_frames(some.iter().flatten().cloned())?;
        }
        let count = primary.len() * 3;
        let mut got = live.out.receive_frames(count).with_context(|| format!("{layout:?}"))?;
        let flow_of = |frame: &Vec<u8>| u16::from_be_bytes([frame[18], frame[19]]) % FLOWS;
        for flow in 0..FLOWS {
            let sent = primary.iter().flatten().filter(|frame| flow_of(frame) == flow);
            assert!(got.iter().filter(|frame| flow_of(frame) == flow).eq(sent), "{layout:?}: flow {flow}");
        }
        got.sort();
        let mut sent: Vec<Vec<u8>> = primary.into_iter().flatten().collect();
        sent.sort();
        assert!(got == sent, "{layout:?}");
        assert_eq!(live.checkpointer.requests(), [], "{layout:?}");
        live.wait("the books balance", |pair| {
            let datagrams = [pair.primary.fragments.reassembled, pair.secondary.fragments.reassembled];
            Books::of(pair).balance() && datagrams == [20 * u64::from(FLOWS); 2]
        })?;
        let books = Books::at_the_end(live.engine.stop())?;
        assert_eq!((books.released, books.held), (u64::try_from(count)?, [0, 0]), "{layout:?}");
    }
    Ok(())
}

#[test]
fn a_flush_goes_by_the_arrival_of_the_fragments() -> Result<()> {
    for layout in LAYOUTS {
        let mut live = Live::start(&patient(layout))?;
        let mut total = 0;
        for round in 0..3 {
            let at = |number| 10 * round + number;
            let mut sent = Vec::new();
            // Whole frames of all flows between the fragments of others; every second datagram stays incomplete.
            for part in 0..3_usize {
                for flow in 0..FLOWS {
                    let pieces = cut(&long(flow, 1), at(flow + 1_000), &[1_000, 2_000]);
                    if part < 2 || flow % 2 == 0 {
                        sent.push(pieces[part].clone());
                    }
                    sent.push(frame(Name { flow, number: u32::from(at(1)) + u32::try_from(part)? }));
                }
            }
            live.primary.send_frames(sent.clone())?;
            live.secondary.send_frames([piece(&long(1, 1), at(1), 0, 800)])?;
            let count = u64::try_from(sent.len())?;
            total += count;
            // What a core shows is a few milliseconds old, or more on a busy machine: it may still be of the round before.
            live.wait("all is held", |pair| {
                pair.primary.frames == total
                    && pair.primary.held_frames == count
                    && pair.secondary.held_frames == 1
            })?;
            assert_eq!(live.pair()?.primary.fragments.held, u64::from(FLOWS), "{layout:?}");
            live.commit();
            let got = live.out.receive_frames(sent.len()).with_context(|| format!("{layout:?}"))?;
            assert!(got == sent, "{layout:?}: in order of arrival");
            // What was flushed is not waited for.
            let late: Vec<Vec<u8>> = (1..FLOWS)
                .step_by(2)
                .map(|flow| cut(&long(flow, 1), at(flow + 1_000), &[1_000, 2_000])[2].clone())
                .collect();
            live.primary.send_frames(late.clone())?;
            total += u64::try_from(late.len())?;
            assert!(live.out.receive_frames(late.len())? == late, "{layout:?}");
            live.wait("the books balance", |pair| Books::of(pair).balance())?;
        }
        let books = Books::at_the_end(live.engine.stop())?;
        assert_eq!(books.held, [0, 0], "{layout:?}");
    }
    Ok(())
}

#[test]
fn a_missing_fragment_asks_in_time_and_one_behind_an_uncommitted_boundary_stays_held() -> Result<()> {
    for layout in LAYOUTS {
        let mut settings = patient(layout);
        settings.compare.compare_timeout = Duration::from_millis(50);
        let mut live = Live::start(&settings)?;
        let pieces = cut(&long(1, 1), 7, &[1_000, 2_000]);
        live.primary.send_frames([pieces[0].clone()])?;
        until("a timeout asks", LIMIT, || {
            let requests = live.checkpointer.requests();
            ensure_that(requests == [Reason::Timeout], || format!("{layout:?}: {requests:?}"))
        })?;
        live.checkpointer.pause()?;
        live.primary.send_frames([pieces[1].clone()])?;
        live.out.stays_quiet().with_context(|| format!("{layout:?}"))?;
        let books = Books::at_the_end(live.engine.stop())?;
        assert_eq!(books.released, 0, "{layout:?}: nothing was committed");
    }
    Ok(())
}
