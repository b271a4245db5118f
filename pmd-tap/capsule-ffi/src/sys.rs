//! Declarations: constants, layouts, and functions of DPDK or of the shim. Nothing is decided here; each function is as
//! safe as DPDK says it is, and what DPDK says is in its own documentation under the same name.

#![allow(non_camel_case_types, non_upper_case_globals)]

use std::ffi::{c_char, c_int, c_uint, c_void};

/// Room for data in a mbuf, bytes, its headroom included.
pub const RTE_MBUF_DEFAULT_BUF_SIZE: u32 = 2048 + HEADROOM_BYTES;
/// Bytes in front of a received frame in its mbuf.
pub const HEADROOM_BYTES: u32 = 128;

/// RSS over addresses. Names are those of DPDK 19.11, values those of 22.11; the shim asserts them.
pub const ETH_RSS_IP: u64 = 0xa38c;
/// RSS over TCP ports.
pub const ETH_RSS_TCP: u64 = 0x1_0410;
/// RSS over UDP ports.
pub const ETH_RSS_UDP: u64 = 0x2_0820;
/// RSS over SCTP ports.
pub const ETH_RSS_SCTP: u64 = 0x1040;
/// A device that frees sent mbufs without looking at them. `rte_eth_dev_info_get` never reports it: frames of several pools
/// may meet in one queue.
pub const DEV_TX_OFFLOAD_MBUF_FAST_FREE: u64 = 1 << 16;

/// How received frames are spread over queues.
pub mod rte_eth_rx_mq_mode {
    /// What the constants are.
    pub type Type = u32;
    /// Not at all.
    pub const ETH_MQ_RX_NONE: Type = 0;
    /// By a hash of the flow.
    pub const ETH_MQ_RX_RSS: Type = 1;
}

/// A mbuf: DPDK's layout of the first two cache lines.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct rte_mbuf {
    /// Where its buffer begins.
    pub buf_addr: *mut c_void,
    buf_iova: u64,
    /// From there to the data, bytes.
    pub data_off: u16,
    /// Who else has it.
    pub refcnt: u16,
    /// Segments of the frame.
    pub nb_segs: u16,
    /// The port it came from.
    pub port: u16,
    /// Flags of offloads.
    pub ol_flags: u64,
    packet_type: u32,
    /// Bytes of the frame.
    pub pkt_len: u32,
    /// Bytes in this segment.
    pub data_len: u16,
    vlan_tci: u16,
    hash: [u32; 2],
    vlan_tci_outer: u16,
    /// Bytes of the buffer.
    pub buf_len: u16,
    /// Where it goes home to.
    pub pool: *mut rte_mempool,
    /// The next segment.
    pub next: *mut rte_mbuf,
    rest: [u64; 7],
}

/// A pool of mbufs: DPDK's layout as far as anybody here reads it. Never made, only pointed at.
#[repr(C)]
#[derive(Debug)]
pub struct rte_mempool {
    /// Its name, zero-terminated.
    pub name: [c_char; 26],
    pool_data: *mut c_void,
    pool_config: *mut c_void,
    mz: *const c_void,
    /// Flags.
    pub flags: c_uint,
    /// NUMA node.
    pub socket_id: c_int,
    /// Mbufs in it.
    pub size: u32,
    /// Mbufs that a core keeps at hand.
    pub cache_size: u32,
}

/// A set of CPUs: `cpu_set_t`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct rte_cpuset_t {
    bits: [u64; 16],
}

/// An Ethernet address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct rte_ether_addr {
    /// Its bytes.
    pub addr_bytes: [u8; 6],
}

/// Receive side of a port's configuration.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct rte_eth_rxmode {
    /// How frames are spread over queues.
    pub mq_mode: rte_eth_rx_mq_mode::Type,
}

/// Send side of a port's configuration.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct rte_eth_txmode {
    /// Offloads wanted.
    pub offloads: u64,
}

/// What RSS hashes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct rte_eth_rss_conf {
    /// Kinds of flows.
    pub rss_hf: u64,
}

/// How queues are filled.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct rte_eth_rx_adv_conf {
    /// RSS.
    pub rss_conf: rte_eth_rss_conf,
}

/// A port's configuration, as far as `capsule` sets one; the shim makes DPDK's of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct rte_eth_conf {
    /// Receiving.
    pub rxmode: rte_eth_rxmode,
    /// Sending.
    pub txmode: rte_eth_txmode,
    /// Receive queues.
    pub rx_adv_conf: rte_eth_rx_adv_conf,
}

/// What a device says of itself, as far as `capsule` asks; the shim fills it in.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct rte_eth_dev_info {
    /// The driver.
    pub driver_name: *const c_char,
    /// Offloads it has when receiving.
    pub rx_offload_capa: u64,
    /// Offloads it has when sending.
    pub tx_offload_capa: u64,
    /// Kinds of flows that its RSS knows.
    pub flow_type_rss_offloads: u64,
    /// Receive queues.
    pub max_rx_queues: u16,
    /// Send queues.
    pub max_tx_queues: u16,
}

impl Default for rte_eth_dev_info {
    fn default() -> Self {
        Self {
            driver_name: c"".as_ptr(),
            rx_offload_capa: 0,
            tx_offload_capa: 0,
            flow_type_rss_offloads: 0,
            max_rx_queues: 0,
            max_tx_queues: 0,
        }
    }
}

/// What a device counts; the shim fills it in.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct rte_eth_stats {
    /// Frames received.
    pub ipackets: u64,
    /// Frames sent.
    pub opackets: u64,
    /// Bytes received.
    pub ibytes: u64,
    /// Bytes sent.
    pub obytes: u64,
    /// Frames lost because nobody fetched them in time.
    pub imissed: u64,
    /// Frames received with a fault.
    pub ierrors: u64,
    /// Frames that could not be sent.
    pub oerrors: u64,
    /// Frames lost for want of a mbuf.
    pub rx_nombuf: u64,
}

/// A kernel interface, which DPDK has no more. Never made.
#[repr(C)]
#[derive(Debug)]
pub struct rte_kni {
    nothing: [u8; 0],
}

/// What such an interface was made with.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct rte_kni_conf {
    /// Its name.
    pub name: [c_char; 32],
    /// Its group.
    pub group_id: u16,
    /// Its address.
    pub mac_addr: [u8; 6],
    /// Bytes of its mbufs.
    pub mbuf_size: c_uint,
}

/// What such an interface called.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct rte_kni_ops {
    /// Its port.
    pub port_id: u16,
    /// The MTU is to change.
    pub change_mtu: Option<unsafe extern "C" fn(u16, c_uint) -> c_int>,
    /// The link is to change.
    pub config_network_if: Option<unsafe extern "C" fn(u16, u8) -> c_int>,
    /// The address is to change.
    pub config_mac_address: Option<unsafe extern "C" fn(u16, *mut u8) -> c_int>,
    /// Promiscuity is to change.
    pub config_promiscusity: Option<unsafe extern "C" fn(u16, u8) -> c_int>,
}

// DPDK's own.
unsafe extern "C" {
    pub fn rte_strerror(error: c_int) -> *const c_char;
    pub fn rte_eal_cleanup() -> c_int;
    pub fn rte_socket_id() -> c_uint;
    pub fn rte_socket_count() -> c_uint;
    pub fn rte_socket_id_by_idx(index: c_uint) -> c_int;
    pub fn rte_mempool_free(pool: *mut rte_mempool);
    pub fn rte_mempool_lookup(name: *const c_char) -> *mut rte_mempool;
    pub fn rte_mempool_in_use_count(pool: *const rte_mempool) -> c_uint;
    pub fn rte_pktmbuf_pool_create(
        name: *const c_char,
        count: c_uint,
        cache_size: c_uint,
        private_bytes: u16,
        buffer_bytes: u16,
        socket_id: c_int,
    ) -> *mut rte_mempool;
    pub fn rte_eth_dev_socket_id(port: u16) -> c_int;
    pub fn rte_eth_dev_get_port_by_name(name: *const c_char, port: *mut u16) -> c_int;
    pub fn rte_eth_macaddr_get(port: u16, address: *mut rte_ether_addr) -> c_int;
    pub fn rte_eth_dev_start(port: u16) -> c_int;
    pub fn rte_eth_dev_stop(port: u16) -> c_int;
    pub fn rte_eth_dev_close(port: u16) -> c_int;
    pub fn rte_eth_dev_adjust_nb_rx_tx_desc(port: u16, rx: *mut u16, tx: *mut u16) -> c_int;
    pub fn rte_eth_rx_queue_setup(
        port: u16,
        queue: u16,
        descriptors: u16,
        socket_id: c_uint,
        settings: *const c_void,
        pool: *mut rte_mempool,
    ) -> c_int;
    pub fn rte_eth_tx_queue_setup(
        port: u16,
        queue: u16,
        descriptors: u16,
        socket_id: c_uint,
        settings: *const c_void,
    ) -> c_int;
    pub fn rte_eth_promiscuous_enable(port: u16) -> c_int;
    pub fn rte_eth_promiscuous_disable(port: u16) -> c_int;
    pub fn rte_eth_allmulticast_enable(port: u16) -> c_int;
    pub fn rte_eth_allmulticast_disable(port: u16) -> c_int;
}

// The shim's, under the names that `capsule` knows.
unsafe extern "C" {
    #[link_name = "cffi_eal_init"]
    pub fn rte_eal_init(count: c_int, arguments: *mut *mut c_char) -> c_int;
    #[link_name = "cffi_errno"]
    pub fn _rte_errno() -> c_int;
    #[link_name = "cffi_thread_set_affinity"]
    pub fn rte_thread_set_affinity(cpus: *mut rte_cpuset_t) -> c_int;
    #[link_name = "cffi_numa_node_of_cpu"]
    pub fn numa_node_of_cpu(cpu: c_int) -> c_int;
    #[link_name = "cffi_eth_dev_info_get"]
    pub fn rte_eth_dev_info_get(port: u16, info: *mut rte_eth_dev_info) -> c_int;
    #[link_name = "cffi_eth_dev_configure"]
    pub fn rte_eth_dev_configure(port: u16, rx_queues: u16, tx_queues: u16, conf: *const rte_eth_conf) -> c_int;
    #[link_name = "cffi_eth_stats_get"]
    pub fn rte_eth_stats_get(port: u16, stats: *mut rte_eth_stats) -> c_int;
    #[link_name = "cffi_eth_rx_burst"]
    pub fn _rte_eth_rx_burst(port: u16, queue: u16, packets: *mut *mut rte_mbuf, room: u16) -> u16;
    #[link_name = "cffi_eth_tx_burst"]
    pub fn _rte_eth_tx_burst(port: u16, queue: u16, packets: *mut *mut rte_mbuf, count: u16) -> u16;
    #[link_name = "cffi_mempool_put_bulk"]
    pub fn _rte_mempool_put_bulk(pool: *mut rte_mempool, packets: *const *mut c_void, count: c_uint);
    #[link_name = "cffi_pktmbuf_alloc"]
    pub fn _rte_pktmbuf_alloc(pool: *mut rte_mempool) -> *mut rte_mbuf;
    #[link_name = "cffi_pktmbuf_alloc_bulk"]
    pub fn _rte_pktmbuf_alloc_bulk(pool: *mut rte_mempool, packets: *mut *mut rte_mbuf, count: c_uint) -> c_int;
    #[link_name = "cffi_pktmbuf_free"]
    pub fn _rte_pktmbuf_free(packet: *mut rte_mbuf);
    #[link_name = "cffi_kni_init"]
    pub fn rte_kni_init(most: c_uint) -> c_int;
    #[link_name = "cffi_kni_close"]
    pub fn rte_kni_close();
    #[link_name = "cffi_kni_alloc"]
    pub fn rte_kni_alloc(pool: *mut rte_mempool, conf: *const rte_kni_conf, ops: *mut rte_kni_ops) -> *mut rte_kni;
    #[link_name = "cffi_kni_release"]
    pub fn rte_kni_release(kni: *mut rte_kni) -> c_int;
    #[link_name = "cffi_kni_get_name"]
    pub fn rte_kni_get_name(kni: *const rte_kni) -> *const c_char;
    #[link_name = "cffi_kni_burst"]
    pub fn rte_kni_rx_burst(kni: *mut rte_kni, packets: *mut *mut rte_mbuf, room: c_uint) -> c_uint;
    #[link_name = "cffi_kni_burst"]
    pub fn rte_kni_tx_burst(kni: *mut rte_kni, packets: *mut *mut rte_mbuf, count: c_uint) -> c_uint;
    #[link_name = "cffi_kni_release"]
    pub fn rte_kni_handle_request(kni: *mut rte_kni) -> c_int;
}

// The shim's, for pmd-tap.
unsafe extern "C" {
    /// Gives the calling thread a cache in every pool, if it has none yet. Returns 0, or -1 when there is no room for one:
    /// it works all the same, slower.
    pub fn cffi_thread_register() -> c_int;
    /// Whether the link is up: 1, 0, or a negative error.
    pub fn cffi_eth_link(port: u16) -> c_int;
    /// Frees so many packets, of whatever pools.
    pub fn cffi_pktmbuf_free_bulk(packets: *mut *mut rte_mbuf, count: c_uint);
    /// Copies a packet's bytes, of however many segments, to `to`, which has room for `pkt_len`.
    pub fn cffi_pktmbuf_copy_out(packet: *const rte_mbuf, to: *mut u8);
    /// A packet with these bytes, in as many segments as they take; null when the pool has too few.
    pub fn cffi_pktmbuf_from(pool: *mut rte_mempool, bytes: *const u8, len: u32) -> *mut rte_mbuf;
}
