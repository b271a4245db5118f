//! One TCP/IP stack for one connection: a smoltcp interface with a single socket, stepped by hand. It owns no
//! clock and no device; packets come from a queue and go to a batch, so that the same steps give the same
//! packets again.

use std::collections::VecDeque;
use std::rc::Rc;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

/// Microseconds since the start of the world.
pub(super) type Micros = u64;

/// An IP packet that several readers keep: both guests, and the log.
pub(super) type Packet = Rc<[u8]>;

/// IP MTU of the demo network.
const MTU: usize = 1_500;

/// `at` as smoltcp wants it.
fn instant(at: Micros) -> Instant {
    Instant::from_micros(i64::try_from(at).unwrap_or(i64::MAX))
}

/// `span` as smoltcp wants it.
pub(super) fn duration(span: Micros) -> Duration {
    Duration::from_micros(span)
}

/// Packets a stack has sent, in order, in one buffer.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct PacketBatch {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl PacketBatch {
    /// Forgets the packets, keeps the memory.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Number of packets.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The packets, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.bytes[start..end])
    }

    /// The youngest packet.
    pub(super) fn last(&self) -> Option<&[u8]> {
        self.iter().last()
    }
}

/// The wire as one poll sees it.
struct Wire<'a> {
    input: &'a mut VecDeque<Packet>,
    output: &'a mut PacketBatch,
}

struct Received(Packet);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Sending<'a>(&'a mut PacketBatch);

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let start = self.0.bytes.len();
        self.0.bytes.resize(start + len, 0);
        let result = f(&mut self.0.bytes[start..]);
        self.0.ends.push(start + len);
        result
    }
}

impl Device for Wire<'_> {
    type RxToken<'b>
        = Received
    where
        Self: 'b;
    type TxToken<'b>
        = Sending<'b>
    where
        Self: 'b;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sending<'_>)> {
        let packet = self.input.pop_front()?;
        Some((Received(packet), Sending(self.output)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        Some(Sending(self.output))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU;
        capabilities
    }
}

/// What a stack is made of. Equal plans make equal stacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StackPlan {
    /// The stack's own address.
    pub(super) address: IpAddress,
    /// Decides the initial sequence number.
    pub(super) seed: u64,
    /// When it comes to be.
    pub(super) born: Micros,
    /// Receive buffer, bytes.
    pub(super) receive_buffer: usize,
    /// Send buffer, bytes.
    pub(super) send_buffer: usize,
}

/// The stack.
pub(super) struct Stack {
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
}

impl Stack {
    /// A stack with one closed socket.
    pub(super) fn new(plan: &StackPlan) -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = plan.seed;
        let mut wire = Wire { input: &mut VecDeque::new(), output: &mut PacketBatch::default() };
        let mut interface = Interface::new(config, &mut wire, instant(plan.born));
        let prefix = match plan.address {
            IpAddress::Ipv4(_) => 24,
            IpAddress::Ipv6(_) => 64,
        };
        interface.update_ip_addrs(|addresses| {
            addresses
                .push(IpCidr::new(plan.address, prefix))
                .expect("a new interface has room for an address");
        });
        let buffer = |bytes| tcp::SocketBuffer::new(vec![0; bytes]);
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let socket = sockets.add(tcp::Socket::new(buffer(plan.receive_buffer), buffer(plan.send_buffer)));
        Self { interface, sockets, socket }
    }

    /// The socket.
    pub(super) fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.socket)
    }

    /// Opens a connection from `local` to `remote`; false when the socket is in use.
    pub(super) fn connect(&mut self, remote: (IpAddress, u16), local: (IpAddress, u16)) -> bool {
        let context = self.interface.context();
        self.sockets.get_mut::<tcp::Socket<'static>>(self.socket).connect(context, remote, local).is_ok()
    }

    /// Takes in all of `input` and sends what there is to send.
    pub(super) fn poll(&mut self, now: Micros, input: &mut VecDeque<Packet>, output: &mut PacketBatch) {
        self.interface.poll(instant(now), &mut Wire { input, output }, &mut self.sockets);
    }

    /// When the next timer of the stack is due; never for `None`, at once for anything not after `now`.
    pub(super) fn due(&mut self, now: Micros) -> Option<Micros> {
        let at = self.interface.poll_at(instant(now), &self.sockets)?;
        Some(u64::try_from(at.total_micros()).unwrap_or(0))
    }
}
