//! The HTTP server of `/metrics`, `/healthz`, `/readyz` and `/status`: one control thread, one connection at a time.
//!
//! A scraper asks every few seconds, so there is nothing to gain from more; what a slow or hostile client can cost is
//! bounded in time and bytes.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::http::{self, Method, Refusal, Response};
use super::snapshot::{LinkState, Snapshot};
use super::{render, status_json};

/// Longest head of a request, bytes.
const HEAD_BYTES: usize = 8 * 1024;
/// Longest time for a request to arrive, and for its answer to leave.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause after the system refused a connection (out of descriptors), so that the thread does not spin.
const BREATH: Duration = Duration::from_millis(50);

/// Gives the numbers of this moment; called on the server's thread, once a request.
pub type Source = Arc<dyn Fn() -> Snapshot + Send + Sync>;

/// Why there is no metrics server.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// cannot listen on the address
    #[error(
        "cannot serve metrics on {address}: {reason}; choose another port with --metrics ADDR:PORT, or --metrics off"
    )]
    Bind {
        /// What was asked for.
        address: SocketAddr,
        /// What the system says.
        reason: io::Error,
    },
    /// cannot start its thread
    #[error("cannot start the metrics thread: {0}")]
    Thread(io::Error),
}

/// A running server; it stops when this is dropped.
#[derive(Debug)]
pub struct MetricsServer {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl MetricsServer {
    /// Listens on `address` (port 0: any free one) and answers from `source`.
    pub fn start(address: SocketAddr, source: Source) -> Result<Self, MetricsError> {
        let failed = |reason| MetricsError::Bind { address, reason };
        let listener = TcpListener::bind(address).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("colo-metrics".to_owned())
            .spawn(move || serve(&listener, &source, &stopped))
            .map_err(MetricsError::Thread)?;
        Ok(Self { address, stop, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// An address that reaches the listener, also when it listens on all.
    fn reachable(&self) -> SocketAddr {
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        SocketAddr::new(ip, self.address.port())
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // Wakes the thread from `accept`. Should that fail, waiting for the thread could take for ever: leave it then.
        let woken = TcpStream::connect_timeout(&self.reachable(), PATIENCE).is_ok();
        if let (true, Some(thread)) = (woken, self.thread.take()) {
            // A panic of the thread was told when it happened.
            let _ = thread.join();
        }
    }
}

fn serve(listener: &TcpListener, source: &Source, stop: &AtomicBool) {
    while !stop.load(Ordering::Acquire) {
        match listener.accept() {
            Ok((stream, _)) if !stop.load(Ordering::Acquire) => {
                // A scraper that went away is its own business.
                let _ = converse(stream, source);
            }
            Ok(_) => {}
            Err(_) => std::thread::sleep(BREATH),
        }
    }
}

fn converse(mut stream: TcpStream, source: &Source) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut head = Vec::new();
    let (method, response) = match read_head(&mut stream, &mut head) {
        Err(response) => (Method::Get, response),
        Ok(()) => match http::parse(&head) {
            Ok(request) => (request.method, page(request.path, source)),
            Err(Refusal::Method) => {
                (Method::Get, Response::text("405 Method Not Allowed", "only GET and HEAD are known"))
            }
            Err(Refusal::Malformed) => {
                (Method::Get, Response::text("400 Bad Request", "this is no HTTP/1 request"))
            }
        },
    };
    stream.write_all(&response.bytes(method))?;
    stream.shutdown(std::net::Shutdown::Write)?;
    // Closing with unread input would reset the connection before the answer is read.
    drain(&mut stream)
}

fn read_head(stream: &mut TcpStream, head: &mut Vec<u8>) -> Result<(), Response> {
    let late = || Response::text("408 Request Timeout", "the request did not arrive in time");
    let deadline = Instant::now() + PATIENCE;
    let mut chunk = [0; 1024];
    while !http::head_ends(head) {
        if head.len() >= HEAD_BYTES {
            return Err(Response::text("431 Request Header Fields Too Large", "the request is too long"));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            return Err(late());
        }
        match stream.read(&mut chunk) {
            // The other side has said all: what is there may still be a request line.
            Ok(0) => return Ok(()),
            Ok(read) => head.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(late()),
        }
    }
    Ok(())
}

fn drain(stream: &mut TcpStream) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE / 4;
    let mut chunk = [0; 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        stream.set_read_timeout(Some(left))?;
        if stream.read(&mut chunk)? == 0 {
            return Ok(());
        }
    }
}

fn page(path: &str, source: &Source) -> Response {
    if !matches!(path, "/metrics" | "/status" | "/readyz") {
        return match path {
            "/healthz" => Response::text("200 OK", "ok"),
            _ => Response::text("404 Not Found", "there are /metrics, /healthz, /readyz and /status"),
        };
    }
    // The source is somebody else's code: its panic must not end the server, which is how the failure is seen.
    let Ok(snapshot) = catch_unwind(AssertUnwindSafe(|| source())) else {
        return Response::text("500 Internal Server Error", "the engine could not be asked");
    };
    match path {
        "/metrics" => Response::ok(http::PROMETHEUS, render(&snapshot)),
        "/status" => Response::ok(http::JSON, format!("{:#}\n", status_json(&snapshot))),
        _ => readiness(&snapshot),
    }
}

/// Ready: every link of every pair is up.
fn readiness(snapshot: &Snapshot) -> Response {
    let several = snapshot.pairs.len() > 1;
    let links = snapshot.pairs.iter().flat_map(|pair| pair.links.iter().map(|link| (&pair.pair, link)));
    let down: Vec<_> = links
        .filter(|(_, link)| link.state == LinkState::Down)
        .map(|(pair, link)| if several { format!("{} of {pair}", link.port) } else { link.port.to_owned() })
        .collect();
    if down.is_empty() {
        Response::text("200 OK", "ready")
    } else {
        Response::text("503 Service Unavailable", &format!("waiting for {}", down.join(", ")))
    }
}
