//! How runs that should be alike differ: least, lower quartile, median, greatest.
//!
//! A machine that others use too makes runs slower, never faster, so that the lower quartile says more of the program and
//! the greatest more of the machine.

use serde::Serialize;

/// The spread of a measure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    pub min: f64,
    pub p25: f64,
    pub median: f64,
    pub max: f64,
}

impl Spread {
    /// Of these values, with quantiles interpolated between neighbours; all zero if there is none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Spread {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let at = |quantile: f64| {
            let place = quantile * sorted.len().saturating_sub(1) as f64;
            let (below, above) = (place.floor() as usize, place.ceil() as usize);
            match (sorted.get(below), sorted.get(above)) {
                (Some(low), Some(high)) => low + (high - low) * place.fract(),
                _ => 0.0,
            }
        };
        Spread { min: at(0.0), p25: at(0.25), median: at(0.5), max: at(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_neighbours_whatever_the_order() {
        let spread = Spread::of([7.0, 1.0, 3.0, 5.0, 9.0]);
        assert_eq!(spread, Spread { min: 1.0, p25: 3.0, median: 5.0, max: 9.0 });
        let even = Spread::of([4.0, 2.0]);
        assert_eq!((even.p25, even.median), (2.5, 3.0));
    }

    #[test]
    fn one_value_is_its_own_spread_and_none_is_zero() {
        assert_eq!(Spread::of([2.0]), Spread { min: 2.0, p25: 2.0, median: 2.0, max: 2.0 });
        assert_eq!(Spread::of([]), Spread::default());
    }
}
