//! What explains the differences: QEMU's faults, each reproduced by a script of the catalogue, and what `colo` does
//! otherwise on purpose. Everything was observed from outside, with Debian's QEMU 7.2.22.

/// One explanation.
#[derive(Debug, Clone, Copy)]
pub struct Reason {
    /// `Q1`, `D1`.
    pub code: &'static str,
    /// What happens, in one or two sentences.
    pub text: &'static str,
    /// Where it shows when no script of the catalogue can show it.
    pub elsewhere: Option<&'static str>,
}

const fn reason(code: &'static str, text: &'static str) -> Reason {
    Reason { code, text, elsewhere: None }
}

const fn elsewhere(code: &'static str, text: &'static str, place: &'static str) -> Reason {
    Reason { code, text, elsewhere: Some(place) }
}

/// All of them.
pub const ALL: &[Reason] = &[
    reason(
        "Q1",
        "What is not TCP is compared newest first. When a second datagram comes before the first has found its partner, equal \
         ones leave in another order, each step asks for a checkpoint that nobody needs, and a checkpoint lets them out \
         backwards.",
    ),
    reason(
        "Q2",
        "When more is released than the output takes at once, the newest goes first: TCP leaves backwards.",
    ),
    reason(
        "Q3",
        "Beyond 1,025 held frames of a flow the rest is lost without a word, the primary's included.",
    ),
    reason(
        "Q4",
        "Beyond 16,384 flows the table is emptied, and with it everything that was held: all of it is lost.",
    ),
    reason("Q5", "What is released while nobody reads the output is lost."),
    reason(
        "Q6",
        "An ack of the primary leaves although the secondary has acknowledged less. After a failover the client would never \
         send again what the secondary lacks.",
    ),
    reason(
        "Q7",
        "A retransmission, a duplicate ack, a keep-alive or an ack that the secondary did not send in just that form waits \
         for a partner of its own, until a checkpoint. Fast retransmission is lost with it.",
    ),
    reason(
        "Q8",
        "The same bytes in other segments leave, but something of one side stays behind and asks for a checkpoint at the \
         timeout; a FIN that travels otherwise is held.",
    ),
    reason(
        "Q9",
        "Segments of the secondary that overlap, come in another order or leave a gap are taken for other content.",
    ),
    reason(
        "Q10",
        "An ack that only the secondary sent stays behind and asks for a checkpoint at the timeout.",
    ),
    reason("Q11", "IPv6 and tagged frames are not compared: they leave whatever the secondary sends."),
    reason(
        "Q12",
        "SYN options are not compared: a client may be told a segment size or window scale that the secondary does not know.",
    ),
    reason("Q13", "The urgent pointer is not compared."),
    reason("Q14", "The window is not compared: a client may be offered more than the secondary would take."),
    reason("Q15", "A RST leaves when the secondary has sent a FIN."),
    reason(
        "Q16",
        "UDP and ICMP are compared to the end of the frame: padding, a missing UDP checksum, an IP header of another length \
         and the identification of a quoted packet count as content.",
    ),
    reason("Q17", "Of other protocols the whole frame is compared, the IP identification included."),
    reason(
        "Q18",
        "Fragments are compared one by one: the same datagram cut otherwise is a difference, and a fragment leaves without \
         its siblings.",
    ),
    reason(
        "D1",
        "`secondary_sequence = \"auto\"`: `colo` translates the secondary's own sequence numbers. QEMU wants a \
         filter-rewriter in front.",
    ),
    reason("D2", "`colo` asks as soon as a FIN or RST is contradicted for certain, QEMU when it is late."),
    reason(
        "D3",
        "Frames of a connection leave `colo` in the order in which they came; QEMU sorts TCP by sequence number and lets a \
         matched datagram overtake one that is held.",
    ),
    reason("D4", "`[class] igmp = \"pass\"`: what keeps up group membership leaves uncompared."),
    reason(
        "D5",
        "`colo` asks for a checkpoint when half of its room is taken (`max_queue_size` of a flow, `max_held_frames` of all), \
         so that the other half is there for what comes until the pause.",
    ),
    elsewhere(
        "D6",
        "`compare_timeout` is 400 ms and looked at every 10 ms, in QEMU 3,000 ms and every 1,000 ms. Both have 400 ms here, \
         QEMU with `expired_scan_cycle=50`.",
        "by default",
    ),
    elsewhere(
        "D7",
        "`colo` has one request outstanding, for however many flows, and repeats it once a second. QEMU asks for each flow, \
         and at each scan while anything is overdue.",
        "`qemu_notify`",
    ),
];

/// The one with this number.
pub fn find(code: &str) -> Option<&'static Reason> {
    ALL.iter().find(|reason| reason.code == code)
}
