//! DPDK's life in this process: started once, with all devices, by `capsule`; ended when the last port is gone.
//!
//! `capsule` wants a thread of its own for control: it pins the thread that builds its runtime, and the runtime cannot move
//! to another. That thread sleeps until the end. Cores of `capsule` stand for queues here: they are started, parked, and
//! get no work, because the engine's own threads receive and send.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use capsule::Runtime;
use capsule::config::RuntimeConfig;
use toml::{Table, Value};

use super::port::{DpdkPort, LENT_AT_MOST};
use super::sys::{self, Device};
use super::{DpdkAddress, memory, refusal};
use crate::{Port, PortError};

/// Frames that a queue of a device holds, each way.
const DESCRIPTORS: u16 = 512;
/// Mbufs that a thread keeps at hand.
const CACHE: usize = 256;
/// Threads that do so: the cores of an engine, its control thread.
const CACHES: usize = 8;
/// The pool that `capsule` makes first; there is one, as all its cores are on one node.
const POOL: &std::ffi::CStr = c"mempool0";

/// Devices that were started and that nobody has asked for yet.
static STARTED: Mutex<Option<Started>> = Mutex::new(None);

struct Started {
    life: Arc<Life>,
    devices: HashMap<DpdkAddress, Device>,
}

/// Kept by every port: when the last one goes, the devices are closed.
#[derive(Debug)]
pub(super) struct Life {
    /// Ends the thread by going away.
    end: Mutex<Option<Sender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Life {
    /// That of a process that has no devices any more, or not yet.
    fn over() -> Self {
        Self { end: Mutex::new(None), thread: Mutex::new(None) }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let take = |end: &mut Option<Sender<()>>| drop(end.take());
        take(self.end.get_mut().unwrap_or_else(PoisonError::into_inner));
        if let Some(thread) = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            // Its panic has been printed by the hook.
            let _ = thread.join();
        }
    }
}

/// Starts DPDK with these devices, once for a process; with none it does nothing. Blocks for as long as that takes, a
/// second perhaps. What DPDK has to say goes to stderr.
///
/// # Errors
/// [`PortError::Os`]: a driver that is not there, arguments it does not know, no memory, or a second start.
pub fn start_dpdk(addresses: &[DpdkAddress]) -> Result<(), PortError> {
    let Some(first) = addresses.first() else { return Ok(()) };
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    if started.is_some() {
        return Err(refusal(first, "DPDK runs already, and starts once in a process".to_owned()));
    }
    let (answer, answered) = channel();
    let (end, ended) = channel();
    let of_thread = addresses.to_vec();
    let thread = std::thread::Builder::new()
        .name("colo-dpdk".to_owned())
        .spawn(move || live(&of_thread, &answer, &ended))
        .map_err(|error| refusal(first, error.to_string()))?;
    let life = Arc::new(Life { end: Mutex::new(Some(end)), thread: Mutex::new(Some(thread)) });
    let devices = answered
        .recv()
        .unwrap_or_else(|_| Err((first.clone(), "DPDK ended the thread that started it".to_owned())))
        .map_err(|(address, problem)| refusal(&address, problem))?;
    *started = Some(Started { life, devices });
    Ok(())
}

/// A port on a device that [`start_dpdk`] has started; each can be had once.
///
/// # Errors
/// [`PortError::Os`] when it was not started, or somebody has it.
pub fn open_dpdk(address: &DpdkAddress) -> Result<Box<dyn Port>, PortError> {
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    let unknown = || refusal(address, "it was not among the devices that DPDK was started with".to_owned());
    let all = started.as_mut().ok_or_else(unknown)?;
    let device = all.devices.remove(address).ok_or_else(unknown)?;
    let mut life = Arc::clone(&all.life);
    if all.devices.is_empty() {
        // Nobody can ask any more: the ports alone decide when it ends.
        life = std::mem::replace(&mut all.life, Arc::new(Life::over()));
    }
    let port = DpdkPort::new(device, address.to_string(), life);
    Ok(Box::new(port))
}

type Answer = Result<HashMap<DpdkAddress, Device>, (DpdkAddress, String)>;

/// The life of the thread that has `capsule`'s runtime.
fn live(addresses: &[DpdkAddress], answer: &Sender<Answer>, ended: &Receiver<()>) {
    let runtime = match build(addresses) {
        Ok(runtime) => runtime,
        Err(problem) => {
            let _ = answer.send(Err(problem));
            return;
        }
    };
    let _ = answer.send(start(addresses));
    // The other end goes with the last port.
    let _ = ended.recv();
    let ports: Vec<_> = addresses.iter().filter_map(|address| sys::find(address.device()).ok()).collect();
    ports.iter().copied().for_each(sys::stop);
    if sys::lent() == 0 {
        // Closes the devices, frees the pools, ends DPDK.
        drop(runtime);
    } else {
        // A frame that somebody still has lies in DPDK's memory: only the devices are given back.
        ports.iter().copied().for_each(sys::close);
        std::mem::forget(runtime);
    }
}

/// Has `capsule` start DPDK, make a pool, and configure the devices. It does not say which device failed; the first that
/// DPDK does not know is named.
fn build(addresses: &[DpdkAddress]) -> Result<Runtime, (DpdkAddress, String)> {
    let built =
        config(addresses).and_then(|config| Runtime::build(config).map_err(|error| error.to_string()));
    built.map_err(|problem| {
        let unknown = addresses.iter().find(|address| sys::find(address.device()).is_err());
        let address = unknown.or(addresses.first()).cloned();
        let address = address.unwrap_or_else(|| unreachable!("start_dpdk was given an address"));
        (address, format!("{problem}; what DPDK said of it is above"))
    })
}

fn start(addresses: &[DpdkAddress]) -> Answer {
    let one = |address: &DpdkAddress| {
        let port = sys::find(address.device())?;
        sys::start(port)?;
        let device = Device::new(port, address.queues(), POOL).ok_or("there is no pool of mbufs")?;
        Ok((address.clone(), device))
    };
    addresses
        .iter()
        .map(|address| one(address).map_err(|problem: String| (address.clone(), problem)))
        .collect()
}

/// What `capsule` is told. Its configuration can only be made from text or a table.
fn config(addresses: &[DpdkAddress]) -> Result<RuntimeConfig, String> {
    let count = |count: usize| i64::try_from(count).map(Value::Integer).map_err(|error| error.to_string());
    // The first CPU that this process may use; queues are numbered from there on, beyond the last CPU too.
    let master = memory::first_cpu();
    let mbufs = mbufs(addresses);
    let ports = addresses.iter().map(|address| {
        let cores = (0..usize::from(address.queues())).map(|queue| count(master + queue));
        let mut port = Table::new();
        port.insert("name".to_owned(), address.device().into());
        port.insert("device".to_owned(), address.device().into());
        if let Some(args) = address.driver_args() {
            port.insert("args".to_owned(), args.into());
        }
        port.insert("cores".to_owned(), cores.collect::<Result<Vec<_>, _>>()?.into());
        port.insert("rxd".to_owned(), i64::from(DESCRIPTORS).into());
        port.insert("txd".to_owned(), i64::from(DESCRIPTORS).into());
        port.insert("promiscuous".to_owned(), true.into());
        Ok(Value::Table(port))
    });
    let mut mempool = Table::new();
    mempool.insert("capacity".to_owned(), count(mbufs)?);
    mempool.insert("cache_size".to_owned(), count(CACHE)?);
    let mut table = Table::new();
    table.insert("app_name".to_owned(), "colo".into());
    table.insert("master_core".to_owned(), count(master)?);
    table.insert("dpdk_args".to_owned(), memory::arguments(addresses, mbufs).into());
    table.insert("mempool".to_owned(), mempool.into());
    table.insert("ports".to_owned(), ports.collect::<Result<Vec<_>, String>>()?.into());
    table.try_into().map_err(|error: toml::de::Error| error.to_string())
}

/// Mbufs for all: what frames may borrow, what devices have in their queues, what threads keep at hand.
fn mbufs(addresses: &[DpdkAddress]) -> usize {
    let queues: usize = addresses.iter().map(|address| usize::from(address.queues())).sum();
    let own = addresses.len() * LENT_AT_MOST + queues * 2 * usize::from(DESCRIPTORS);
    (own + CACHES * CACHE * 3 / 2).next_power_of_two() - 1
}
