//! In which form requests are written: CBOR or JSON, as configured or as the endpoint takes them.
//!
//! ```text
//!                       CBOR answered with success
//!   Probing, in CBOR ───────────────────────────────────▶ Settled in CBOR
//!     │          ▲                                              ▲
//!     │ refused  │ JSON refused too                             │ CBOR answered with success
//!     ▼          │                                              │
//!   Trying, in JSON ────────────────────────────────────────────┤
//!                       JSON answered with success              └▶ Settled in JSON
//! ```
//!
//! What was refused as CBOR is sent once more, as JSON. If that is refused too, the form was not at fault, and the next
//! request is a probe again. A trouble that says nothing of the form (a throttle, a timeout, refused credentials)
//! changes nothing. A settled choice never changes: an endpoint that took CBOR once does not unlearn it.
//!
//! With `WireFormat::Cbor` or `WireFormat::Json` the choice is settled from the start. Each core learns by itself: it
//! costs one request a core. What counts as a refusal of the form, [`super::retrier`] decides.

use super::planted::{Mistake, planted};
use crate::codec::Wire;
use crate::config::WireFormat;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Probing,
    Trying,
    Settled(Wire),
}

/// The choice of one core.
pub struct WireChoice {
    state: State,
    /// What was learned and not told yet.
    news: Option<Wire>,
}

impl WireChoice {
    /// What `format` leaves to choose.
    pub fn new(format: WireFormat) -> WireChoice {
        let state = match format {
            WireFormat::Auto => State::Probing,
            WireFormat::Cbor => State::Settled(Wire::Cbor),
            WireFormat::Json => State::Settled(Wire::Json),
        };
        WireChoice { state, news: None }
    }

    /// The form of the next request.
    pub fn wire(&self) -> Wire {
        match self.state {
            State::Probing => Wire::Cbor,
            State::Trying => Wire::Json,
            State::Settled(wire) => wire,
        }
    }

    /// A request in `wire` was answered with a result for each entry.
    pub fn taken(&mut self, wire: Wire) {
        if !matches!(self.state, State::Settled(_)) {
            let wire = if planted(Mistake::FormMistaken) { Wire::Cbor } else { wire };
            self.state = State::Settled(wire);
            self.news = Some(wire);
        }
    }

    /// A request in `wire` was refused for its form, as it seems. Answers whether it is to be sent in the other form.
    pub fn refused(&mut self, wire: Wire) -> bool {
        match (self.state, wire) {
            // Under way when JSON proved to be what the endpoint takes: nobody has judged its records yet.
            (State::Settled(Wire::Json), Wire::Cbor) => true,
            (State::Settled(_), _) => false,
            // Requests that were under way when the first was refused are refused as well.
            (State::Probing | State::Trying, Wire::Cbor) => {
                self.state = State::Trying;
                true
            }
            (State::Probing | State::Trying, Wire::Json) => {
                self.state = State::Probing;
                false
            }
        }
    }

    /// The form that the endpoint has proved to take, once.
    pub fn poll_settled(&mut self) -> Option<Wire> {
        self.news.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Refuses CBOR, and finds that JSON is tried.
    fn trying() -> WireChoice {
        let mut choice = WireChoice::new(WireFormat::Auto);
        assert_eq!(choice.wire(), Wire::Cbor);
        assert!(choice.refused(Wire::Cbor));
        assert_eq!(choice.wire(), Wire::Json);
        choice
    }

    #[test]
    fn cbor_that_was_taken_once_stays() {
        let mut choice = WireChoice::new(WireFormat::Auto);
        choice.taken(Wire::Cbor);
        assert_eq!((choice.poll_settled(), choice.poll_settled()), (Some(Wire::Cbor), None));
        assert!(!choice.refused(Wire::Cbor));
        assert_eq!(choice.wire(), Wire::Cbor);
    }

    #[test]
    fn json_that_was_taken_after_a_refusal_stays() {
        let mut choice = trying();
        assert!(choice.refused(Wire::Cbor), "another was under way");
        choice.taken(Wire::Json);
        assert_eq!(choice.poll_settled(), Some(Wire::Json));
        assert!(choice.refused(Wire::Cbor), "a late one is sent again in the proved form");
        assert!(!choice.refused(Wire::Json));
        choice.taken(Wire::Cbor);
        assert_eq!((choice.wire(), choice.poll_settled()), (Wire::Json, None));
    }

    #[test]
    fn where_json_is_refused_too_the_form_was_not_at_fault() {
        let mut choice = trying();
        assert!(!choice.refused(Wire::Json));
        assert_eq!((choice.wire(), choice.poll_settled()), (Wire::Cbor, None));
        assert!(choice.refused(Wire::Cbor), "the next request is a probe again");
    }

    #[test]
    fn a_cbor_request_that_was_under_way_and_is_taken_ends_the_trial() {
        let mut choice = trying();
        choice.taken(Wire::Cbor);
        assert_eq!((choice.wire(), choice.poll_settled()), (Wire::Cbor, Some(Wire::Cbor)));
    }

    #[test]
    fn a_configured_form_is_never_left() {
        for (format, wire) in [(WireFormat::Cbor, Wire::Cbor), (WireFormat::Json, Wire::Json)] {
            let mut choice = WireChoice::new(format);
            assert!(!choice.refused(wire));
            choice.taken(wire);
            assert_eq!((choice.wire(), choice.poll_settled()), (wire, None));
        }
    }
}
