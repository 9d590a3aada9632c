//! Whether an ended container is started again, and after how long. Pure.
//!
//! Delays are Docker's: 100 ms, doubling up to a minute, from the start again once a run lasted ten seconds.

use api::host_config::RestartPolicy;
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);
const STABLE: Duration = Duration::from_secs(10);

/// How a run ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    pub exit_code: i64,
    /// The user asked for it to end.
    pub stopped_by_user: bool,
    /// The daemon is going down.
    pub shutting_down: bool,
    pub ran_for: Duration,
    /// Restarts before this one.
    pub restarts: i64,
    /// The delay before the run that ended, zero before the first.
    pub last_delay: Duration,
}

/// The delay before the next run; `None` leaves the container stopped.
pub fn decide(policy: &RestartPolicy, ended: Ended) -> Option<Duration> {
    if ended.stopped_by_user || ended.shutting_down {
        return None;
    }
    let again = match policy.name.as_str() {
        "always" | "unless-stopped" => true,
        "on-failure" => {
            ended.exit_code != 0 && (policy.maximum_retry_count <= 0 || ended.restarts < policy.maximum_retry_count)
        }
        _ => false,
    };
    again.then(|| {
        if ended.ran_for >= STABLE || ended.last_delay.is_zero() {
            FIRST
        } else {
            (ended.last_delay * 2).min(LONGEST)
        }
    })
}

/// Whether a container is started when the daemon starts and finds it stopped.
pub fn at_boot(policy: &RestartPolicy, stopped_by_user: bool, was_running: bool) -> bool {
    match policy.name.as_str() {
        "always" => true,
        "unless-stopped" => !stopped_by_user,
        "on-failure" => was_running && !stopped_by_user,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, count: i64) -> RestartPolicy {
        RestartPolicy {
            name: name.into(),
            maximum_retry_count: count,
        }
    }

    const FAILED: Ended = Ended {
        exit_code: 1,
        stopped_by_user: false,
        shutting_down: false,
        ran_for: Duration::from_secs(1),
        restarts: 0,
        last_delay: Duration::ZERO,
    };

    #[test]
    fn policies() {
        for (name, count, ended, again) in [
            ("no", 0, FAILED, false),
            ("", 0, FAILED, false),
            ("always", 0, FAILED, true),
            ("always", 0, Ended { exit_code: 0, ..FAILED }, true),
            (
                "always",
                0,
                Ended {
                    stopped_by_user: true,
                    ..FAILED
                },
                false,
            ),
            (
                "unless-stopped",
                0,
                Ended {
                    shutting_down: true,
                    ..FAILED
                },
                false,
            ),
            ("on-failure", 0, Ended { exit_code: 0, ..FAILED }, false),
            ("on-failure", 3, Ended { restarts: 2, ..FAILED }, true),
            ("on-failure", 3, Ended { restarts: 3, ..FAILED }, false),
        ] {
            assert_eq!(decide(&policy(name, count), ended).is_some(), again, "{name} {ended:?}");
        }
    }

    #[test]
    fn delays_double_and_start_over() {
        let after = |last: u64, ran: u64| {
            decide(
                &policy("always", 0),
                Ended {
                    last_delay: Duration::from_millis(last),
                    ran_for: Duration::from_secs(ran),
                    ..FAILED
                },
            )
            .unwrap()
            .as_millis()
        };
        assert_eq!(
            (after(0, 0), after(100, 0), after(51_200, 0), after(51_200, 10)),
            (100, 200, 60_000, 100)
        );
    }
}
