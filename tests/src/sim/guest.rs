//! Simulated guests: both run the same scripts, each in its own time and with its own way of cutting a stream.

use colo_engine::side::{BySide, Side};

use super::draws::{Draws, index, mix, number};
use super::packet::{ACK, Ends, FIN, PSH, RST, SYN, Tcp, arp_frame, datagram_frame, tcp_frame};

/// How a life of a connection begins, as far as the engine sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// With a SYN.
    Syn,
    /// It was there before the engine.
    Middle,
}

/// How a life of a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With a FIN.
    Fin,
    /// With a reset.
    Reset,
    /// Not at all.
    Open,
}

/// One life of a connection, as scripted. Stream positions: 0 is the SYN, data from 1 on, then the FIN.
#[derive(Clone, Debug)]
pub struct Life {
    /// Initial numbers of the guests.
    pub isn: BySide<u32>,
    /// Initial number of the client.
    pub client_isn: u32,
    /// Bytes of data.
    pub length: u32,
    /// Decides the data.
    pub content: u64,
    /// Its beginning.
    pub opening: Opening,
    /// Its end.
    pub end: End,
}

impl Life {
    /// The byte at a position.
    pub fn byte(&self, position: u32) -> u8 {
        mix(self.content, u64::from(position)).to_be_bytes()[0]
    }

    /// The position behind the data.
    pub fn data_end(&self) -> u32 {
        self.length + 1
    }
}

/// A connection and its lives.
#[derive(Clone, Debug)]
pub struct Script {
    /// Its ends.
    pub ends: Ends,
    /// Its lives, one after another.
    pub lives: Vec<Life>,
}

/// A flow of datagrams.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Its ends.
    pub ends: Ends,
    /// Datagrams.
    pub count: u32,
    /// Decides their content.
    pub content: u64,
}

impl Stream {
    fn datagram(&self, place: u32) -> Vec<u8> {
        // Some are equal to each other.
        let word = mix(self.content, u64::from(place / 2 * 2 + place % 3 % 2));
        let len = index(u32::try_from(word % 48).unwrap_or(0));
        (0..len).map(|at| mix(word, u64::from(number(at))).to_be_bytes()[0]).collect()
    }
}

/// In whose numbers a guest sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// The primary's, but for the SYN.
    Primary,
    /// Its own.
    Own,
}

/// What is wrong with a guest's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quirk {
    /// Nothing.
    None,
    /// The byte at a position differs.
    Byte(u32),
    /// The stream ends early.
    Short(u32),
    /// Positions are never sent.
    Hole(u32, u32),
}

/// A guest's state in a connection.
#[derive(Clone, Copy, Debug)]
pub struct Talk {
    /// Which life.
    pub life: usize,
    /// The next position to send.
    pub next: u32,
    /// Client bytes acknowledged.
    pub acked: u32,
    /// In whose numbers it sends.
    pub numbers: Numbers,
    /// What is wrong.
    pub quirk: Quirk,
    /// Whether it has sent its end.
    pub is_over: bool,
}

impl Talk {
    /// At the beginning of a life.
    pub fn begin(life: usize, script: &Life, numbers: Numbers) -> Self {
        let next = u32::from(script.opening != Opening::Syn);
        Self { life, next, acked: 0, numbers, quirk: Quirk::None, is_over: false }
    }
}

/// One guest.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Who it is.
    pub side: Side,
    /// Its connections.
    pub talks: Vec<Talk>,
    /// Its next datagrams.
    pub sent: Vec<u32>,
    /// Its next IP identification.
    pub id: u16,
    /// What short frames are padded with.
    pub padding: u8,
    /// Window of its segments.
    pub window: u16,
}

/// What is there to say in a connection.
#[derive(Clone, Copy, Debug)]
pub struct Topic {
    /// Position up to which the application has written.
    pub written: u32,
    /// Client bytes that came.
    pub client: u32,
}

impl Guest {
    fn segment(&mut self, script: &Script, talk: &Talk, from: u32, to: u32, flags: u8) -> Vec<u8> {
        let life = &script.lives[talk.life];
        let isn = match (self.side, talk.numbers) {
            (Side::Secondary, Numbers::Own) => life.isn.secondary,
            // A rewriter leaves the SYN alone.
            (Side::Secondary, Numbers::Primary) if flags & SYN != 0 => life.isn.secondary,
            _ => life.isn.primary,
        };
        let data_to = to.min(life.data_end());
        let mut payload: Vec<u8> =
            (from.max(1)..data_to.max(1)).map(|position| life.byte(position)).collect();
        if let Quirk::Byte(at) = talk.quirk
            && (from..data_to).contains(&at)
        {
            payload[index(at - from)] ^= 1 << (at % 8);
        }
        let segment = Tcp {
            seq: isn.wrapping_add(from),
            ack: life.client_isn.wrapping_add(1).wrapping_add(talk.acked),
            flags: flags | ACK,
            window: self.window,
            payload: &payload,
        };
        self.id = self.id.wrapping_add(1);
        tcp_frame(script.ends, self.id, &segment, self.padding)
    }

    /// Says something in a connection.
    pub fn talk(
        &mut self,
        at: usize,
        script: &Script,
        topic: Topic,
        draws: &mut Draws,
        out: &mut Vec<Vec<u8>>,
    ) {
        let mut talk = self.talks[at];
        let life = &script.lives[talk.life];
        if talk.next > 0 && draws.percent(60) {
            talk.acked = draws.between(talk.acked, topic.client.max(talk.acked));
        }
        let before = out.len();
        // Whoever is picked up in the middle is so where it begins.
        let is_picked_up = life.opening == Opening::Middle && talk.next <= 1;
        if talk.next == 0 {
            out.push(self.segment(script, &talk, 0, 1, SYN));
            talk.next = 1;
        } else if draws.percent(12) && talk.next > 2 {
            let from = draws.between(talk.next.saturating_sub(200).max(1), talk.next - 1);
            let to = draws.between(from + 1, talk.next);
            let fin = if to > life.data_end() { FIN } else { 0 };
            if !talk.is_over || life.end == End::Fin {
                out.push(self.segment(script, &talk, from, to, fin));
            }
        } else if draws.percent(15) {
            out.push(self.segment(script, &talk, talk.next, talk.next, 0));
        } else {
            for _ in 0..draws.between(1, 2) {
                let most = [8, 40, 300, 1_400][draws.place(4)];
                let len = draws.between(1, most);
                self.say(script, &mut talk, topic, len, out);
            }
            if out.len() > before + 1 && draws.percent(20) && !is_picked_up {
                out.swap(before, before + 1);
            }
        }
        self.talks[at] = talk;
    }

    /// Sends what comes next, up to `most` positions; the end behind the last byte.
    fn say(&mut self, script: &Script, talk: &mut Talk, topic: Topic, most: u32, out: &mut Vec<Vec<u8>>) {
        let life = &script.lives[talk.life];
        let data_end = match talk.quirk {
            Quirk::Short(end) => end.min(life.data_end()).max(1),
            _ => life.data_end(),
        };
        let to = (talk.next + most).min(topic.written).min(data_end);
        if let Quirk::Hole(from, until) = talk.quirk
            && (from..until).contains(&talk.next)
        {
            talk.next = until.min(data_end);
            return;
        }
        let is_end = to == data_end && topic.written >= data_end && !talk.is_over;
        let fin = is_end && life.end == End::Fin && most.is_multiple_of(2);
        if to > talk.next {
            out.push(self.segment(
                script,
                talk,
                talk.next,
                to + u32::from(fin),
                PSH | if fin { FIN } else { 0 },
            ));
            talk.next = to + u32::from(fin);
            talk.is_over = fin || (is_end && life.end == End::Open);
        } else if is_end {
            match life.end {
                End::Fin => {
                    out.push(self.segment(script, talk, talk.next, talk.next + 1, FIN));
                    talk.next += 1;
                }
                End::Reset => out.push(self.segment(script, talk, talk.next, talk.next, RST)),
                End::Open => {}
            }
            talk.is_over = true;
        }
    }

    /// Says all that is left in this life.
    pub fn finish(&mut self, at: usize, script: &Script, client: u32, out: &mut Vec<Vec<u8>>) {
        let mut talk = self.talks[at];
        let topic = Topic { written: script.lives[talk.life].data_end(), client };
        if talk.next == 0 {
            out.push(self.segment(script, &talk, 0, 1, SYN));
            talk.next = 1;
        }
        while !talk.is_over {
            self.say(script, &mut talk, topic, 1_401, out);
        }
        talk.acked = client;
        out.push(self.segment(script, &talk, talk.next, talk.next, 0));
        self.talks[at] = talk;
    }

    /// Sends the next datagrams of a flow, sometimes in the wrong order.
    pub fn send(&mut self, at: usize, stream: &Stream, draws: &mut Draws, out: &mut Vec<Vec<u8>>) {
        let before = out.len();
        for _ in 0..draws.between(1, 3) {
            if self.sent[at] < stream.count {
                self.id = self.id.wrapping_add(1);
                let content = stream.datagram(self.sent[at]);
                out.push(datagram_frame(stream.ends, self.id, &content, self.padding));
                self.sent[at] += 1;
            }
        }
        if out.len() > before + 1 && draws.percent(25) {
            out.swap(before, before + 1);
        }
    }

    /// Something nobody compares.
    pub fn babble(&self, draws: &mut Draws) -> Vec<u8> {
        if draws.percent(70) {
            return arp_frame(1, u8::try_from(draws.below(256)).unwrap_or(0));
        }
        // An IP packet that says it is longer than it is.
        let mut junk = vec![0; 14 + index(draws.between(20, 60))];
        for byte in &mut junk[14..] {
            *byte = draws.bits().to_be_bytes()[0];
        }
        junk[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
        junk[16..18].copy_from_slice(&[0x7f, 0xff]);
        junk
    }
}
