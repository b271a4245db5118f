/*
 * What of DPDK a foreign language cannot call: inline functions, macros, and structures that differ between versions. Built
 * against the installed headers, so the assertions hold the Rust side's layouts and constants against them. No policy.
 */
#include <errno.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>

#define AT(type, field, offset) _Static_assert(offsetof(struct type, field) == (offset), #type "." #field)

AT(rte_mbuf, buf_addr, 0);
AT(rte_mbuf, data_off, 16);
AT(rte_mbuf, refcnt, 18);
AT(rte_mbuf, nb_segs, 20);
AT(rte_mbuf, port, 22);
AT(rte_mbuf, ol_flags, 24);
AT(rte_mbuf, pkt_len, 36);
AT(rte_mbuf, data_len, 40);
AT(rte_mbuf, buf_len, 54);
AT(rte_mbuf, pool, 56);
AT(rte_mbuf, next, 64);
_Static_assert(sizeof(struct rte_mbuf) == 128, "a mbuf is two cache lines");
_Static_assert(RTE_PKTMBUF_HEADROOM == 128, "HEADROOM_BYTES");
_Static_assert(RTE_MBUF_DEFAULT_BUF_SIZE == 2048 + 128, "RTE_MBUF_DEFAULT_BUF_SIZE");
AT(rte_mempool, name, 0);
AT(rte_mempool, flags, 56);
AT(rte_mempool, socket_id, 60);
AT(rte_mempool, size, 64);
AT(rte_mempool, cache_size, 68);
_Static_assert(RTE_MEMPOOL_NAMESIZE == 26, "rte_mempool.name");
_Static_assert(sizeof(rte_cpuset_t) == 128, "rte_cpuset_t");
_Static_assert(sizeof(struct rte_ether_addr) == 6, "rte_ether_addr");
_Static_assert(RTE_ETH_RSS_IP == 0xa38c, "ETH_RSS_IP");
_Static_assert(RTE_ETH_RSS_TCP == 0x10410, "ETH_RSS_TCP");
_Static_assert(RTE_ETH_RSS_UDP == 0x20820, "ETH_RSS_UDP");
_Static_assert(RTE_ETH_RSS_SCTP == 0x1040, "ETH_RSS_SCTP");
_Static_assert(RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE == 1 << 16, "DEV_TX_OFFLOAD_MBUF_FAST_FREE");

/* Whether a name is a PCI address with domain, as in 0000:af:00.0. */
static int is_pci(const char *name)
{
	unsigned int domain, bus, device, function;
	int read = 0;

	return sscanf(name, "%4x:%2x:%2x.%1x%n", &domain, &bus, &device, &function, &read) == 4 && name[read] == '\0';
}

/*
 * Options have other names since DPDK 20.11. capsule knows decimal PCI addresses only and takes the others for virtual
 * devices. DPDK keeps the arguments, so they are never freed. Its log belongs on stderr, as everybody's.
 */
int cffi_eal_init(int count, char **arguments)
{
	char **own = calloc((size_t)count + 1, sizeof(*own));
	int i;

	if (own == NULL)
		return -ENOMEM;
	for (i = 0; i < count; i++) {
		const char *argument = arguments[i];

		if (strcmp(argument, "--master-lcore") == 0)
			argument = "--main-lcore";
		else if (strcmp(argument, "--pci-whitelist") == 0)
			argument = "--allow";
		else if (strcmp(argument, "--vdev") == 0 && i + 1 < count && is_pci(arguments[i + 1]))
			argument = "--allow";
		own[i] = strdup(argument);
		if (own[i] == NULL)
			return -ENOMEM;
	}
	rte_openlog_stream(stderr);
	/* DPDK says -1 and puts the reason into rte_errno; capsule reads it there. */
	return rte_eal_init(count, own);
}

int cffi_errno(void)
{
	return rte_errno;
}

/* The CPUs this process may use: those of its first thread, which nobody pins. */
static void allowed_cpus(rte_cpuset_t *allowed)
{
	CPU_ZERO(allowed);
	if (sched_getaffinity(getpid(), sizeof(*allowed), allowed) != 0 || CPU_COUNT(allowed) == 0)
		CPU_SET(0, allowed);
}

/* A CPU that there is, for a number that may be beyond them. */
static int existing_cpu(const rte_cpuset_t *allowed, int cpu)
{
	int skip, i;

	if (cpu >= 0 && cpu < CPU_SETSIZE && CPU_ISSET(cpu, allowed))
		return cpu;
	skip = (cpu < 0 ? 0 : cpu) % CPU_COUNT(allowed);
	for (i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, allowed) && skip-- == 0)
			return i;
	return 0;
}

int cffi_thread_register(void)
{
	return rte_lcore_id() == LCORE_ID_ANY ? rte_thread_register() : 0;
}

/*
 * capsule's workers are threads that DPDK does not know, without caches in the pools: they are made known here, where each
 * comes by once. Its core numbers stand for queues and may be beyond the CPUs.
 */
int cffi_thread_set_affinity(rte_cpuset_t *wanted)
{
	rte_cpuset_t allowed, cpus;
	int i;

	allowed_cpus(&allowed);
	CPU_ZERO(&cpus);
	for (i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, wanted))
			CPU_SET(existing_cpu(&allowed, i), &cpus);
	cffi_thread_register();
	return rte_thread_set_affinity(&cpus);
}

int cffi_numa_node_of_cpu(int cpu)
{
	rte_cpuset_t allowed;

	allowed_cpus(&allowed);
	cpu = existing_cpu(&allowed, cpu);
	return cpu < RTE_MAX_LCORE ? (int)rte_lcore_to_socket_id((unsigned int)cpu) : 0;
}

struct cffi_dev_info {
	const char *driver_name;
	uint64_t rx_offload_capa, tx_offload_capa, flow_type_rss_offloads;
	uint16_t max_rx_queues, max_tx_queues;
};

int cffi_eth_dev_info_get(uint16_t port, struct cffi_dev_info *to)
{
	struct rte_eth_dev_info info;
	int result = rte_eth_dev_info_get(port, &info);

	if (result != 0)
		return result;
	to->driver_name = info.driver_name;
	to->rx_offload_capa = info.rx_offload_capa;
	to->tx_offload_capa = info.tx_offload_capa & ~RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
	to->flow_type_rss_offloads = info.flow_type_rss_offloads;
	to->max_rx_queues = info.max_rx_queues;
	to->max_tx_queues = info.max_tx_queues;
	return 0;
}

struct cffi_eth_conf {
	uint32_t rx_mq_mode;
	uint64_t tx_offloads;
	uint64_t rss_hf;
};

int cffi_eth_dev_configure(uint16_t port, uint16_t rx_queues, uint16_t tx_queues, const struct cffi_eth_conf *from)
{
	struct rte_eth_conf conf;

	memset(&conf, 0, sizeof(conf));
	/* A device without a hash for RSS spreads by itself, or has one queue that counts. */
	if (from->rx_mq_mode != 0 && from->rss_hf != 0) {
		conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		conf.rx_adv_conf.rss_conf.rss_hf = from->rss_hf;
	}
	conf.txmode.offloads = from->tx_offloads;
	return rte_eth_dev_configure(port, rx_queues, tx_queues, &conf);
}

struct cffi_eth_stats {
	uint64_t ipackets, opackets, ibytes, obytes, imissed, ierrors, oerrors, rx_nombuf;
};

int cffi_eth_stats_get(uint16_t port, struct cffi_eth_stats *to)
{
	struct rte_eth_stats stats;
	int result = rte_eth_stats_get(port, &stats);

	if (result != 0)
		return result;
	*to = (struct cffi_eth_stats){
		.ipackets = stats.ipackets, .opackets = stats.opackets, .ibytes = stats.ibytes, .obytes = stats.obytes,
		.imissed = stats.imissed, .ierrors = stats.ierrors, .oerrors = stats.oerrors, .rx_nombuf = stats.rx_nombuf,
	};
	return 0;
}

int cffi_eth_link(uint16_t port)
{
	struct rte_eth_link link;
	int result = rte_eth_link_get_nowait(port, &link);

	return result < 0 ? result : link.link_status == RTE_ETH_LINK_UP;
}

uint16_t cffi_eth_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t room)
{
	return rte_eth_rx_burst(port, queue, packets, room);
}

uint16_t cffi_eth_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t count)
{
	return rte_eth_tx_burst(port, queue, packets, count);
}

void cffi_pktmbuf_free_bulk(struct rte_mbuf **packets, unsigned int count)
{
	rte_pktmbuf_free_bulk(packets, count);
}

/* capsule puts packets of several pools into the pool of the first; here each goes to its own. */
void cffi_mempool_put_bulk(struct rte_mempool *pool, void *const *packets, unsigned int count)
{
	(void)pool;
	rte_pktmbuf_free_bulk((struct rte_mbuf **)(uintptr_t)packets, count);
}

struct rte_mbuf *cffi_pktmbuf_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

int cffi_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **packets, unsigned int count)
{
	return rte_pktmbuf_alloc_bulk(pool, packets, count);
}

void cffi_pktmbuf_free(struct rte_mbuf *packet)
{
	rte_pktmbuf_free(packet);
}

void cffi_pktmbuf_copy_out(const struct rte_mbuf *packet, uint8_t *to)
{
	for (; packet != NULL; packet = packet->next) {
		memcpy(to, rte_pktmbuf_mtod(packet, const uint8_t *), packet->data_len);
		to += packet->data_len;
	}
}

struct rte_mbuf *cffi_pktmbuf_from(struct rte_mempool *pool, const uint8_t *bytes, uint32_t len)
{
	struct rte_mbuf *head = NULL, *last = NULL;

	do {
		struct rte_mbuf *segment = rte_pktmbuf_alloc(pool);
		uint16_t take;

		if (segment == NULL) {
			rte_pktmbuf_free(head);
			return NULL;
		}
		take = (uint16_t)RTE_MIN(len, (uint32_t)rte_pktmbuf_tailroom(segment));
		memcpy(rte_pktmbuf_mtod(segment, void *), bytes, take);
		segment->data_len = take;
		if (head == NULL) {
			head = segment;
		} else {
			last->next = segment;
			head->nb_segs++;
		}
		last = segment;
		head->pkt_len = last == head ? take : head->pkt_len + take;
		bytes += take;
		len -= take;
	} while (len > 0);
	return head;
}

/* KNI left DPDK: whoever asks for it is told so. */
static int no_kni(void)
{
	RTE_LOG(ERR, USER1, "KNI is not in this DPDK; use a net_tap port instead\n");
	rte_errno = ENOTSUP;
	return -ENOTSUP;
}

int cffi_kni_init(unsigned int most)
{
	return no_kni();
}

void cffi_kni_close(void)
{
}

void *cffi_kni_alloc(struct rte_mempool *pool, const void *conf, void *ops)
{
	no_kni();
	return NULL;
}

int cffi_kni_release(void *kni)
{
	return no_kni();
}

const char *cffi_kni_get_name(const void *kni)
{
	return "";
}

unsigned int cffi_kni_burst(void *kni, struct rte_mbuf **packets, unsigned int count)
{
	return 0;
}
