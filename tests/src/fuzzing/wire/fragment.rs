//! Fragments, read once more: what one says of its datagram stands in its own headers, and the headers of the whole
//! datagram are those of its first fragment, less what made it one.

use colo_engine::wire::{Fragment, Packet, Place};
use etherparse::Ipv4HeaderSlice;

use super::{TAG, TAG_AT, link, place, tag};

const V6_HEADER_LEN: usize = 40;
const FRAGMENT_HEADER_LEN: usize = 8;

/// What it says of itself stands in the frame.
pub(super) fn judge(fragment: &Fragment, data: &[u8]) {
    let (kind, vlan, start) = link(data);
    let (offset, len) = place(fragment.payload);
    let headers = usize::try_from(fragment.headers_len()).expect("an index");
    let said = (fragment.identification, fragment.offset, fragment.place == Place::Inner);
    assert_eq!(fragment.end(), fragment.offset + fragment.payload.len);
    assert_eq!((fragment.flow().vlan(), fragment.key().vlan()), (vlan, vlan));
    assert_eq!(fragment.key().addresses(), fragment.flow().addresses());
    if kind == 0x0800 {
        let header = Ipv4HeaderSlice::from_slice(&data[start..]).expect("the parser took it");
        let expected = u32::from(header.fragments_offset().value()) * 8;
        assert_eq!(said, (u32::from(header.identification()), expected, header.more_fragments()));
        let end = start + usize::from(header.total_len());
        assert_eq!((headers, offset + len), (start + header.slice().len(), end));
        assert_eq!((offset, fragment.flow().protocol()), (headers, header.protocol().0));
    } else {
        assert_eq!((kind, offset), (0x86dd, headers + FRAGMENT_HEADER_LEN));
        assert!(headers >= start + V6_HEADER_LEN);
        let header: &[u8; FRAGMENT_HEADER_LEN] = data[headers..].first_chunk().expect("it is in the frame");
        let word = u16::from_be_bytes([header[2], header[3]]);
        let identification = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        assert_eq!(said, (identification, u32::from(word & !7), word & 1 == 1));
        assert_eq!((fragment.flow().protocol(), fragment.key().protocol()), (header[0], 44));
    }
    assert!(said.1 != 0 || said.2, "it is a whole datagram");
    judge_headers(fragment, data);
}

/// The headers of the whole differ from the fragment's where the length stands and what made it a fragment, nowhere
/// else.
fn judge_headers(fragment: &Fragment, data: &[u8]) {
    let (kind, _, start) = link(data);
    let headers = usize::try_from(fragment.headers_len()).expect("an index");
    let counted_from = if kind == 0x0800 { start } else { start + V6_HEADER_LEN };
    for len in [8, fragment.payload.len, 1_480, 65_000, 65_535] {
        let length = headers - counted_from + usize::try_from(len).expect("an index");
        assert_eq!(fragment.can_carry(len), length <= 65_535, "{len} bytes behind {headers}");
        if !fragment.can_carry(len) {
            continue;
        }
        let mut whole = vec![0xee; headers + 4];
        fragment.write_headers(data, len, &mut whole);
        assert_eq!(whole[headers..], [0xee; 4], "written behind the headers");
        let at = start + if kind == 0x0800 { 2 } else { 4 };
        assert_eq!(usize::from(u16::from_be_bytes([whole[at], whole[at + 1]])), length);
        let differs = |place: &usize| whole[*place] != data[*place];
        let others = (0..headers).filter(differs).filter(|place| !(at..at + 2).contains(place));
        if kind == 0x0800 {
            assert_eq!(whole[start + 6..start + 8], [0, 0], "no longer a fragment");
            assert!(others.eq((start + 6..start + 8).filter(differs)));
        } else {
            let named: Vec<usize> = others.collect();
            assert!(named.len() <= 1, "{named:?}");
            assert!(named.iter().all(|at| data[*at] == 44 && whole[*at] == fragment.flow().protocol()));
        }
    }
}

/// A fragment and the same one with a tag, in their frames.
pub(super) fn agrees_with_tagged(plain: &Fragment, data: &[u8], tagged: &Packet, bytes: &[u8]) {
    let Packet::Fragment(tagged) = tagged else { panic!("{tagged:?}: with a tag it is no fragment") };
    judge(tagged, bytes);
    assert_eq!(
        (tagged.identification, tagged.offset, tagged.place),
        (plain.identification, plain.offset, plain.place)
    );
    assert_eq!((tagged.payload.offset, tagged.payload.len), (plain.payload.offset + 4, plain.payload.len));
    assert_eq!((tagged.key(), *tagged.flow()), (tag(&plain.key()), tag(plain.flow())));
    assert_eq!(tagged.hides_its_header(bytes), plain.hides_its_header(data));
    let headers = |fragment: &Fragment, data: &[u8]| {
        let mut whole = vec![0; usize::try_from(fragment.headers_len()).expect("an index")];
        fragment.write_headers(data, 8, &mut whole);
        whole
    };
    let mut expected = headers(plain, data);
    expected.splice(TAG_AT..TAG_AT, TAG);
    assert_eq!(headers(tagged, bytes), expected, "headers of the whole");
}
