//! What the demo's guests serve: a pure function from a request to every byte of its answer, shared by the
//! guests, which send it, and the client, which checks it. Nothing here knows about connections or time.

use std::sync::LazyLock;

use super::random::{Draws, below, mix};

/// Bodies are windows into one table of noise, so that serving and checking are both a memory compare, and a
/// byte that is missing, doubled or altered shows at once.
static NOISE: LazyLock<Vec<u8>> =
    LazyLock::new(|| (0..2 * BODY_MAX / 8).flat_map(|word| noise_word(word).to_le_bytes()).collect());

/// Longest body, bytes.
const BODY_MAX: usize = 64 * 1024;

/// A request longer than this is not one of ours, bytes.
pub(super) const REQUEST_MAX: usize = 128;

/// What ends a request.
const REQUEST_END: &[u8] = b"\r\n\r\n";

fn noise_word(word: usize) -> u64 {
    mix(0x000c_0105_eed0, u64::try_from(word).unwrap_or(0))
}

/// The request for `key`, as it goes over the wire.
pub(super) fn request(key: u64) -> String {
    format!("GET /k/{key} HTTP/1.1\r\nHost: demo\r\n\r\n")
}

/// What a guest found at the front of its input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// A whole request: its key, and how many bytes it took.
    Request(u64, usize),
    /// Not all there yet.
    Partial,
    /// Not a request of ours.
    Bad,
}

/// Reads the request at the front of `input`.
pub(super) fn parse_request(input: &[u8]) -> Parsed {
    let Some(end) = input.windows(REQUEST_END.len()).position(|window| window == REQUEST_END) else {
        return if input.len() > REQUEST_MAX { Parsed::Bad } else { Parsed::Partial };
    };
    let digits = input.strip_prefix(b"GET /k/").and_then(|rest| rest.split(|&byte| byte == b' ').next());
    let key = digits.and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|text| text.parse().ok());
    key.map_or(Parsed::Bad, |key| Parsed::Request(key, end + REQUEST_END.len()))
}

/// How long a guest thinks about `key` before it answers, µs: a disk read for one request in sixteen, so that
/// delayed ACKs leave on their own now and then.
pub(super) fn think_us(key: u64) -> u64 {
    let bits = mix(0x7417, key);
    if bits.is_multiple_of(16) { 2_000 + bits / 16 % 10_000 } else { 0 }
}

/// The answer to one request.
#[derive(Debug, Clone)]
pub(super) struct Response {
    header: String,
    body_start: usize,
    body_len: usize,
}

impl Response {
    /// The answer to `key`: mostly small, one in twenty up to 64 KiB.
    pub(super) fn of(key: u64) -> Self {
        let mut draws = Draws::new(mix(0xb0d1, key));
        let (from, to) = match draws.below(20) {
            0..10 => (100, 1_000),
            10..16 => (1_000, 8_000),
            16..19 => (8_000, 24_000),
            _ => (24_000, BODY_MAX),
        };
        let body_len = from + draws.below(to - from + 1);
        let body_start = below(draws.bits(), BODY_MAX);
        let header = format!("HTTP/1.1 200 OK\r\nX-Key: {key}\r\nContent-Length: {body_len}\r\n\r\n");
        Self { header, body_start, body_len }
    }

    /// Bytes of the whole answer.
    pub(super) fn len(&self) -> usize {
        self.header.len() + self.body_len
    }

    /// Some offset inside the body, chosen by `bits`.
    pub(super) fn body_offset(&self, bits: u64) -> usize {
        self.header.len() + below(bits, self.body_len)
    }

    /// The answer's bytes from `offset` to the end of the header or of the body, whichever `offset` is in;
    /// empty at the end.
    pub(super) fn rest(&self, offset: usize) -> &[u8] {
        let header = self.header.as_bytes();
        if let Some(rest) = header.get(offset..).filter(|rest| !rest.is_empty()) {
            return rest;
        }
        let skip = (offset - header.len()).min(self.body_len);
        &NOISE[self.body_start + skip..self.body_start + self.body_len]
    }

    /// Offset in `data` of the first byte that is not what belongs at `offset`; bytes past the end are wrong.
    pub(super) fn first_wrong(&self, offset: usize, data: &[u8]) -> Option<usize> {
        let mut checked = 0;
        while checked < data.len() {
            let expected = self.rest(offset + checked);
            let len = expected.len().min(data.len() - checked);
            let (seen, expected) = (&data[checked..checked + len], &expected[..len]);
            if len == 0 || seen != expected {
                return Some(checked + seen.iter().zip(expected).take_while(|(a, b)| a == b).count());
            }
            checked += len;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(response: &Response) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < response.len() {
            bytes.extend_from_slice(response.rest(bytes.len()));
        }
        bytes
    }

    #[test]
    fn a_request_reads_back() {
        let text = request(u64::MAX);
        assert!(text.len() <= REQUEST_MAX);
        assert_eq!(parse_request(text.as_bytes()), Parsed::Request(u64::MAX, text.len()));
        assert_eq!(parse_request(&text.as_bytes()[..text.len() - 1]), Parsed::Partial);
        assert_eq!(parse_request(b"PUT /k/1 HTTP/1.1\r\n\r\n"), Parsed::Bad);
    }

    #[test]
    fn sizes_span_the_promised_range() {
        let sizes: Vec<usize> = (0..5_000).map(|key| Response::of(key).body_len).collect();
        assert!(sizes.iter().all(|&size| (100..=BODY_MAX).contains(&size)));
        assert!(sizes.iter().any(|&size| size < 200) && sizes.iter().any(|&size| size > 60_000));
    }

    #[test]
    fn any_altered_shifted_or_extra_byte_is_found() {
        let response = Response::of(42);
        let mut bytes = whole(&response);
        assert_eq!(bytes.len(), response.len());
        assert_eq!(response.first_wrong(0, &bytes), None);
        assert_eq!(response.first_wrong(30, &bytes[30..90]), None);
        for at in [0, 10, response.header.len(), bytes.len() - 1] {
            bytes[at] ^= 1;
            assert_eq!(response.first_wrong(0, &bytes), Some(at));
            bytes[at] ^= 1;
        }
        bytes.push(0);
        assert_eq!(response.first_wrong(0, &bytes), Some(response.len()));
        assert_ne!(whole(&Response::of(43)), whole(&response));
    }
}
