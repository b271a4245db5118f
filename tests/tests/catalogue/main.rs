//! The case catalogue of comparison.md §8, replayed black-box through `colo replay`: each row is a named test that
//! carries its number. Written from the specification alone; a reading chosen where it leaves two says "Reading:".
#![forbid(unsafe_code)]

mod classes;
mod clocks;
mod datagrams;
mod epochs;
mod fine_points;
mod floods;
mod fragments;
mod icmp;
mod incarnations;
mod links;
mod offloads;
mod own_fragments;
mod own_policy;
mod own_tcp;
mod rules;
mod sequence_space;
mod tcp_acks;
mod tcp_data;
mod tcp_events;
mod tcp_openings;
mod tcp_positions;
mod timers;
mod tunnels;
mod windows;
