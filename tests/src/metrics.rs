//! A scrape of `/metrics` and sums over its samples: the few lines of HTTP and of the text format a test needs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

const SCRAPE_LIMIT: Duration = Duration::from_secs(5);
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// One sample line: name, labels, value.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Metric name.
    pub name: String,
    /// Labels as written, without the braces: `pair="0",side="primary"`.
    pub labels: String,
    /// The value.
    pub value: f64,
}

/// All samples of one scrape.
#[derive(Debug, Clone, Default)]
pub struct Scrape {
    /// In the order of the page.
    pub samples: Vec<Sample>,
}

impl Scrape {
    /// Reads the text format; comments are skipped.
    pub fn parse(text: &str) -> Result<Self> {
        let samples =
            text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(parse_sample);
        Ok(Self { samples: samples.collect::<Result<_>>()? })
    }

    /// Scrapes once.
    pub fn get(address: SocketAddr) -> Result<Self> {
        Self::parse(&http_get(address, "/metrics")?)
    }

    /// Scrapes until `done` says so; the error shows the last page's `colo_frames` and checkpoint lines.
    pub fn wait(address: SocketAddr, limit: Duration, done: impl Fn(&Self) -> bool) -> Result<Self> {
        let deadline = Instant::now() + limit;
        loop {
            let scrape = Self::get(address);
            if let Ok(scrape) = &scrape
                && done(scrape)
            {
                return Ok(scrape.clone());
            }
            if Instant::now() >= deadline {
                let scrape = scrape.context("the metrics page cannot be read")?;
                bail!("the metrics are not as awaited within {limit:?}: {}", scrape.interesting());
            }
            std::thread::sleep(RETRY_INTERVAL);
        }
    }

    /// Sum over the samples of `name` that carry all `labels` (`side="primary"`). A metric that is missing altogether
    /// is an error: a misspelt name must not count as zero.
    pub fn sum(&self, name: &str, labels: &[&str]) -> Result<u64> {
        let mut found = self.samples.iter().filter(|sample| sample.name == name).peekable();
        ensure!(found.peek().is_some(), "no metric {name} on the page");
        let matching = found.filter(|sample| labels.iter().all(|label| sample.has(label)));
        // Not `sum`, whose empty sum is minus zero.
        let value = matching.fold(0.0, |sum, sample| sum + sample.value);
        format!("{value:.0}").parse().map_err(|_| anyhow!("{name} is {value}, not a count"))
    }

    /// What matters most of it, for messages.
    pub fn interesting(&self) -> String {
        let lines = self.samples.iter().filter(|sample| {
            sample.value != 0.0
                && ["colo_frames", "colo_held", "colo_check", "colo_inv"]
                    .iter()
                    .any(|name| sample.name.starts_with(name))
        });
        let lines: Vec<_> =
            lines.map(|sample| format!("  {}{{{}}} {}", sample.name, sample.labels, sample.value)).collect();
        lines.join("\n")
    }
}

impl Sample {
    fn has(&self, label: &str) -> bool {
        self.labels.split(',').any(|own| own == label)
    }
}

fn parse_sample(line: &str) -> Result<Sample> {
    let (series, value) = line.rsplit_once(' ').with_context(|| format!("not a sample: {line:?}"))?;
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.trim_end_matches('}')),
        None => (series, ""),
    };
    let value = value.parse().with_context(|| format!("not a sample's value: {line:?}"))?;
    Ok(Sample { name: name.to_owned(), labels: labels.to_owned(), value })
}

/// Body of a GET on loopback, status 200 or an error.
pub fn http_get(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, SCRAPE_LIMIT)?;
    stream.set_read_timeout(Some(SCRAPE_LIMIT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) =
        answer.split_once("\r\n\r\n").with_context(|| format!("no HTTP answer: {answer:?}"))?;
    ensure!(head.split(' ').nth(1) == Some("200"), "GET {path}: {head}");
    Ok(body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_by_label_and_refuses_unknown_names() {
        let page = "# TYPE a counter\na{x=\"1\",y=\"2\"} 3\na{x=\"2\",y=\"2\"} 4\nb 0.5\n";
        let scrape = Scrape::parse(page).unwrap();
        assert_eq!(scrape.sum("a", &[]).unwrap(), 7);
        assert_eq!(scrape.sum("a", &["x=\"2\""]).unwrap(), 4);
        assert_eq!(scrape.sum("a", &["x=\"9\""]).unwrap(), 0);
        assert!(scrape.sum("c", &[]).is_err());
    }
}
