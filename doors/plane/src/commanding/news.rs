//! How far commands came, on their way from the shards to the record.

use crate::shared::Locked;
use gateway::Progress;
use model::{CommandId, Delivery, DeviceId, Timestamp};
use std::collections::BTreeMap;
use tokio::sync::Notify;

/// What was told and is not on record: of each delivery the last word.
pub type Told = BTreeMap<(CommandId, DeviceId), (Delivery, Timestamp)>;

/// A delivery stands here once however often its device connects, so this holds no more than there
/// are deliveries under way. What is lost in a crash is found again: the command goes out once more.
#[derive(Default)]
pub struct News {
    told: Locked<Told>,
    nudge: Notify,
}

impl News {
    /// Never waits: a shard says it.
    pub fn tell(&self, progress: Progress, at: Timestamp) {
        let key = (progress.command, progress.device);
        self.told.lock().insert(key, (progress.delivery, at));
        self.nudge.notify_one();
    }

    /// Returns when something was told since the last time.
    pub async fn wait(&self) {
        self.nudge.notified().await;
    }

    #[must_use]
    pub fn take(&self, count_max: usize) -> Told {
        let mut told = self.told.lock();
        let end = told.keys().nth(count_max).cloned();
        let rest = end.map(|end| told.split_off(&end)).unwrap_or_default();
        std::mem::replace(&mut *told, rest)
    }

    /// What could not be recorded, unless more was told since.
    pub fn put_back(&self, left: Told) {
        let mut told = self.told.lock();
        for (key, value) in left {
            told.entry(key).or_insert(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::DeliveryWait;

    #[test]
    fn the_last_word_counts_and_what_came_later_is_not_put_back() {
        let news = News::default();
        let at = Timestamp::from_seconds(1);
        let tell = |number, delivery| {
            let progress = Progress {
                command: CommandId::from_number(number),
                device: "cam-1".parse().unwrap(),
                delivery,
            };
            news.tell(progress, at);
        };
        for number in 1..=3 {
            tell(number, Delivery::Sent);
        }
        tell(1, Delivery::Waiting(DeliveryWait::Away));
        let taken = news.take(2);
        assert_eq!(taken.len(), 2);
        let first = taken.values().next().unwrap().0;
        assert_eq!(first, Delivery::Waiting(DeliveryWait::Away));
        tell(1, Delivery::Delivered);
        news.put_back(taken);
        let all: Vec<Delivery> = news.take(9).into_values().map(|(it, _)| it).collect();
        assert_eq!(all, [Delivery::Delivered, Delivery::Sent, Delivery::Sent]);
        assert!(news.take(9).is_empty());
    }
}
