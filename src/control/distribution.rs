//! Who decides where a stream's records come to lie: what is known of that, and when to ask for the stream's description.
//!
//! ```text
//!            first listing                 suspected                   AUTO
//!   Detect ───────────────▶ asked ─ no ─▶ known ─────────▶ asked ────────────▶ asked with every listing
//!                             │                              │ no answer              │ not AUTO any more
//!                             └ refused ─▶ not asked again   └ twice ─▶ AUTO          └▶ known, not asked
//! ```
//!
//! DescribeStreamSummary may be called 20 times a second in a whole *account*, so it is asked for as seldom as will do, and
//! after a listing, whose period is jittered. What fails for now is asked again with the next listing; what is refused,
//! as for want of a permission, only on suspicion. Where the description cannot be had, suspicion decides, when it has come
//! again after another listing: one answer may have been about a stream that was made anew meanwhile. The stream counts as
//! AUTO then until a description says otherwise.

use super::discovery::{DiscoveryError, Hope};
use crate::config::RecordDistribution;

/// What a listing found besides the shards: nothing, if it was not to be asked for.
pub(crate) type Described = Option<Result<bool, DiscoveryError>>;

/// So many suspicions decide where no description is to be had.
const SUSPICIONS_DECIDE: u32 = 2;

/// What is known of one stream.
pub(super) struct Distribution {
    configured: RecordDistribution,
    /// Whether the service decides, as far as is known.
    managed: bool,
    /// There is no answer yet, and no refusal.
    unanswered: bool,
    /// A core has evidence that the service decides.
    suspected: bool,
    /// Suspicions without an answer, since the last one.
    unanswered_suspicions: u32,
    /// Somebody was told that the description is refused.
    complained: bool,
}

impl Distribution {
    /// That of a stream of which nothing is known but what is configured.
    pub(super) fn new(configured: RecordDistribution) -> Distribution {
        let (managed, unanswered) = match configured {
            RecordDistribution::Detect => (false, true),
            RecordDistribution::UserKey => (false, false),
            RecordDistribution::Auto => (true, false),
        };
        Distribution { configured, managed, unanswered, suspected: false, unanswered_suspicions: 0, complained: false }
    }

    /// Whether the service decides, as far as is known.
    pub(super) fn is_managed(&self) -> bool {
        self.managed
    }

    /// Whether the description is to be asked for with the next listing.
    pub(super) fn asks(&self) -> bool {
        let detects = self.configured == RecordDistribution::Detect;
        detects && (self.unanswered || self.suspected || self.managed)
    }

    /// A core has evidence that the service decides. Answers whether that is news, and a listing is to be made for it.
    pub(super) fn suspect(&mut self) -> bool {
        let news = self.configured == RecordDistribution::Detect && !self.managed;
        self.suspected |= news;
        news
    }

    /// Whether evidence waits for a description to be asked for.
    pub(super) fn is_suspected(&self) -> bool {
        self.suspected
    }

    /// What a listing has found. Answers why the description is refused, if somebody is to be told.
    pub(super) fn answered(&mut self, described: Described) -> Option<DiscoveryError> {
        let (suspected, error) = match described? {
            Ok(managed) => {
                (self.managed, self.unanswered, self.suspected) = (managed, false, false);
                self.unanswered_suspicions = 0;
                return None;
            }
            Err(error) => (std::mem::take(&mut self.suspected), error),
        };
        self.unanswered_suspicions += u32::from(suspected);
        self.managed |= self.unanswered_suspicions >= SUSPICIONS_DECIDE;
        // An endpoint that does not know the operation will not learn it.
        let unknown = error.code.as_deref() == Some("UnknownOperationException");
        let refused = error.hope == Hope::None || unknown;
        self.unanswered &= !refused;
        (refused && !std::mem::replace(&mut self.complained, true)).then_some(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(hope: Hope) -> Described {
        Some(Err(DiscoveryError { code: None, message: "no".into(), hope }))
    }

    fn state(distribution: &Distribution) -> (bool, bool) {
        (distribution.is_managed(), distribution.asks())
    }

    #[test]
    fn it_is_asked_first_and_on_suspicion_and_while_the_service_decides() {
        let mut distribution = Distribution::new(RecordDistribution::Detect);
        assert_eq!(state(&distribution), (false, true), "with the first listing");
        assert_eq!(distribution.answered(Some(Ok(false))), None);
        assert_eq!(state(&distribution), (false, false));
        assert_eq!(distribution.answered(None), None);
        assert!(distribution.suspect());
        assert_eq!(state(&distribution), (false, true));
        distribution.answered(Some(Ok(true)));
        assert_eq!(state(&distribution), (true, true), "so that it can go back");
        assert!(!distribution.suspect(), "that is known");
        distribution.answered(Some(Ok(false)));
        assert_eq!(state(&distribution), (false, false));
    }

    #[test]
    fn a_refusal_is_told_once_and_then_suspicions_decide() {
        let mut distribution = Distribution::new(RecordDistribution::Detect);
        assert!(distribution.answered(error(Hope::None)).is_some());
        assert_eq!(state(&distribution), (false, false), "not again without a reason");
        assert!(distribution.suspect());
        assert_eq!(distribution.answered(error(Hope::None)), None, "it was told before");
        assert_eq!(state(&distribution), (false, false), "once is not enough");
        assert!(distribution.suspect());
        distribution.answered(error(Hope::None));
        assert_eq!(state(&distribution), (true, true));
        distribution.answered(error(Hope::None));
        assert_eq!(state(&distribution), (true, true));
        distribution.answered(Some(Ok(false)));
        assert_eq!(state(&distribution), (false, false), "a permission was granted meanwhile");
    }

    #[test]
    fn what_fails_for_now_is_asked_again_and_a_suspicion_does_not_wait_for_it() {
        for hope in [Hope::Soon, Hope::WithinGrace] {
            let mut distribution = Distribution::new(RecordDistribution::Detect);
            assert_eq!(distribution.answered(error(hope)), None);
            assert_eq!(state(&distribution), (false, true));
            for decides in [false, true] {
                distribution.suspect();
                distribution.answered(error(hope));
                assert_eq!(state(&distribution), (decides, true));
            }
        }
    }

    #[test]
    fn what_is_configured_is_never_asked_for() {
        for (configured, managed) in [(RecordDistribution::UserKey, false), (RecordDistribution::Auto, true)] {
            let mut distribution = Distribution::new(configured);
            assert!(!distribution.suspect());
            assert_eq!(state(&distribution), (managed, false));
        }
    }
}
