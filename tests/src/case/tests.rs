//! The builder checks itself: what it builds parses back with the numbers a case asked for and right checksums.

use etherparse::{NetSlice, SlicedPacket, TcpSlice, TransportSlice};

use super::*;

fn tcp_of(bytes: &[u8]) -> (TcpSlice<'_>, u16) {
    let sliced = SlicedPacket::from_ethernet(bytes).unwrap();
    let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { panic!("not TCP") };
    let sum = match sliced.net.unwrap() {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            tcp.calc_checksum_ipv4(header.source, header.destination).unwrap()
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header().to_header();
            tcp.calc_checksum_ipv6(header.source, header.destination).unwrap()
        }
        NetSlice::Arp(_) => panic!("not IP"),
    };
    (tcp, sum)
}

#[test]
fn segments_parse_back_with_valid_checksums() {
    on_both(|case| {
        let case = case
            .isns(0xFFFF_FFFA, 5)
            .client_isn(0xFFFF_FFFF)
            .p(0.ms(), syn_ack())
            .p(1.ms(), seg(0..11).flag(Flag::Psh))
            .p(2.ms(), fin().ack(7))
            .s(2.ms(), seg(0..11).with_byte(3, 0xFF));
        for sent in case.sent(Side::Primary).iter().chain(case.sent(Side::Secondary)) {
            let (tcp, sum) = tcp_of(&sent.bytes);
            assert_eq!(tcp.checksum(), sum, "{}", sent.what);
        }
        let (syn, _) = tcp_of(&case.sent(Side::Primary)[0].bytes);
        assert_eq!((syn.sequence_number(), syn.acknowledgment_number()), (0xFFFF_FFFA, 0));
        assert!(syn.syn() && syn.ack() && syn.payload().is_empty());
        let (data, _) = tcp_of(&case.sent(Side::Primary)[1].bytes);
        assert_eq!((data.sequence_number(), data.payload().len()), (0xFFFF_FFFB, 11));
        assert!(data.psh() && !data.fin());
        let (end, _) = tcp_of(&case.sent(Side::Primary)[2].bytes);
        assert_eq!((end.sequence_number(), end.acknowledgment_number()), (6, 7));
        assert!(end.fin());
        let (other, _) = tcp_of(&case.sent(Side::Secondary)[0].bytes);
        assert_eq!(other.sequence_number(), 6);
        let differing: Vec<usize> = (0..11).filter(|i| other.payload()[*i] != data.payload()[*i]).collect();
        assert_eq!(differing, [3]);
    });
}

#[test]
fn padding_lies_behind_the_ip_packet() {
    let case = Case::v4().p(0.ms(), ack(0).pad_to(60));
    let bytes = &case.sent(Side::Primary)[0].bytes;
    assert_eq!(bytes.len(), 60);
    assert!(bytes[54..].iter().all(|byte| *byte != 0));
    let (tcp, sum) = tcp_of(bytes);
    assert_eq!((tcp.checksum(), tcp.payload().len()), (sum, 0));
}

#[test]
fn a_datagram_can_lack_its_checksum() {
    let case = Case::v4().p(0.ms(), udp(b"one")).p(0.ms(), udp(b"one").udp_checksum_zero());
    let sum = |index: usize| {
        let sliced = SlicedPacket::from_ethernet(&case.sent(Side::Primary)[index].bytes).unwrap();
        let Some(TransportSlice::Udp(udp)) = sliced.transport else { panic!("not UDP") };
        assert_eq!(udp.payload(), b"one");
        udp.checksum()
    };
    assert_ne!(sum(0), 0);
    assert_eq!(sum(1), 0);
}

#[test]
fn positions_give_content_and_incarnations_differ() {
    assert_eq!(content(0, 5), content(0, 5));
    assert!((-1..5000).all(|position| content(0, position) < 0x80));
    assert!((0..100).filter(|position| content(0, *position) == content(1, *position)).count() < 10);
    assert!((0..100).filter(|position| content(0, *position) == content(0, position + 1)).count() < 10);
}

#[test]
fn captures_read_back() {
    let records = vec![(1.ms(), vec![1, 2, 3]), (1_500.us(), vec![4])];
    for (format, unit_ns) in [(Format::PcapNs, 1), (Format::PcapUs, 1_000)] {
        let decoded = decode(&encode(format, &records)).unwrap();
        assert_eq!((decoded.records, decoded.unit_ns), (records.clone(), unit_ns));
    }
    assert!(decode(&encode(Format::PcapNs, &records)[..50]).is_err());
}
