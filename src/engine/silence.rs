//! Streams that have fallen silent: nothing comes in any more where something always did.
//!
//! A source that shows nothing looks like a quiet one. How long quiet usually lasts there is told by the stream itself, by
//! the hours of the last two weeks in which anything happened: nights and weekends are among them.

use counterpart_connectors::Millis;
use serde::Serialize;

use super::flow_streams;
use crate::config::Config;
use crate::store::{Result, Store};

const HOUR_MS: Millis = 3_600_000;
/// What is usual is learned from so much time.
const LEARNED_FROM_MS: Millis = 14 * 24 * HOUR_MS;
/// With fewer busy hours than this, or all of them within less time, nothing is known of what is usual.
const ENOUGH_HOURS: usize = 20;
const ENOUGH_TIME: i64 = 7 * 24;

/// A stream in which nothing has happened for more than twice as long as is usual there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Silence {
    /// The connection.
    pub connection: String,
    /// The stream.
    pub stream: String,
    /// The hour in which something happened last.
    pub since: Millis,
    /// The longest quiet in the two weeks before.
    pub usual_ms: Millis,
}

/// The streams in which flows wait for something to happen and that have fallen silent.
pub async fn silent_streams(store: &Store, config: &Config, now: Millis) -> Result<Vec<Silence>> {
    let mut silent = Vec::new();
    let awaited = |name: &String| config.flows.iter().any(|flow| flow.from == *name);
    // Of conversations only their end is an event: how often customers write, it does not tell.
    let streams = flow_streams(config).into_iter().filter(|(name, stream)| awaited(name) && stream != "conversation");
    for (connection, stream) in streams {
        let Some(last) = store.last_event_at(&connection, &stream).await? else { continue };
        let hours = store.busy_hours(&connection, &stream, last - LEARNED_FROM_MS).await?;
        if let Some((since, usual_ms)) = silence(&hours, now) {
            silent.push(Silence { connection, stream, since, usual_ms });
        }
    }
    Ok(silent)
}

/// Since when it is silent, and the longest quiet that was usual; `hours` since 1970 in which something happened, in order.
/// None while all is well.
fn silence(hours: &[i64], now: Millis) -> Option<(Millis, Millis)> {
    let (first, last) = (*hours.first()?, *hours.last()?);
    if hours.len() < ENOUGH_HOURS || last - first < ENOUGH_TIME {
        return None;
    }
    let usual = hours.windows(2).map(|pair| pair[1] - pair[0]).max()?;
    let quiet = now.div_euclid(HOUR_MS) - last;
    (quiet > 2 * usual).then_some((last * HOUR_MS, usual * HOUR_MS))
}

#[cfg(test)]
mod tests {
    use super::{HOUR_MS, silence};

    /// Ten days in which something happens from nine to five.
    fn shop() -> Vec<i64> {
        (0..10).flat_map(|day| (9..17).map(move |hour| day * 24 + hour)).collect()
    }

    #[test]
    fn a_night_is_no_silence_and_two_days_are() {
        let last = 9 * 24 + 16;
        for quiet in [0, 1, 17, 34] {
            assert_eq!(silence(&shop(), (last + quiet) * HOUR_MS), None, "{quiet} h");
        }
        for quiet in [35, 10_000] {
            assert_eq!(silence(&shop(), (last + quiet) * HOUR_MS), Some((last * HOUR_MS, 17 * HOUR_MS)));
        }
    }

    #[test]
    fn little_is_known_of_what_is_new() {
        assert_eq!(silence(&[], 1_000 * HOUR_MS), None);
        assert_eq!(silence(&shop()[..40], 1_000 * HOUR_MS), None, "five days");
        let rare: Vec<i64> = (0..19).map(|n| n * 12).collect();
        assert_eq!(silence(&rare, 10_000 * HOUR_MS), None, "nineteen times");
    }
}
