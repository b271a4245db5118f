//! What the control thread hears of the ports: links that come and go.

use pmd_tap::{LinkEvent, Nanos};

use super::Control;
use crate::metrics::LinkState;
use crate::runtime::shared::{PortNews, PortRole};

impl Control {
    pub(super) fn heed_links(&mut self, now: Nanos) {
        while let Some((role, news)) = self.shared.next_link() {
            let port = role.label();
            let place = match role {
                PortRole::Primary => 0,
                PortRole::Secondary => 1,
                PortRole::Out => 2,
            };
            let event = match news {
                PortNews::Link(event) => event,
                PortNews::Obstacle(obstacle) => {
                    if self.obstacles[place] != obstacle && self.link_log.allows(now) {
                        tracing::warn!("{port}: {obstacle}; it is tried again and again");
                        self.obstacles[place] = obstacle;
                    }
                    continue;
                }
            };
            self.obstacles[place].clear();
            let up = matches!(event, LinkEvent::Up { .. });
            let was_up = {
                let mut counters = self.counters();
                counters.refused += u64::from(matches!(event, LinkEvent::Refused { .. }));
                std::mem::replace(&mut counters.up[place], up)
            };
            if up && role == PortRole::Out {
                self.backend.output_is_up();
            }
            if up != was_up {
                self.heed_change(role, if up { LinkState::Up } else { LinkState::Down }, now);
            }
            if !self.link_log.allows(now) {
                continue;
            }
            match event {
                LinkEvent::Up { peer } => tracing::info!("{port} is up: {peer}"),
                LinkEvent::Down { reason } => tracing::warn!("{port} is down: {reason}"),
                LinkEvent::Refused { reason } => tracing::warn!("{port}: connection closed: {reason}"),
            }
        }
    }
}
