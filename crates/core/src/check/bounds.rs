//! When a change is out of bounds: robust statistics over earlier releases.
//!
//! Changes are compared as logarithms of ratios: a warehouse that grows by a percent a day grows by
//! a percent a day at any size, and half is as far as double. Their ordinary size is their median,
//! and their spread the median absolute deviation (MAD) times 1.4826, which estimates the standard
//! deviation of normally distributed values and which a single outlier among the earlier releases
//! does not move (Rousseeuw and Croux, "Alternatives to the Median Absolute Deviation", JASA 88,
//! 1993; the cut at several such deviations: Iglewicz and Hoaglin, "How to Detect and Handle
//! Outliers", 1993).
//!
//! Two things are added to the textbook. A history that never changed has a MAD of zero, and any
//! change would be infinitely far out: there is a floor, wider the less history there is. And what
//! a good release did before is no defect: the largest earlier change is within bounds.

/// How many earlier good releases a comparison needs. With one there is nothing to tell a change
/// from how the relation always changes.
pub const ENOUGH: usize = 2;

/// What makes the MAD an estimate of the standard deviation.
const NORMAL: f64 = 1.4826;

/// How many deviations from the median are odd.
const DEVIATIONS: f64 = 4.0;

/// The median; `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted: Vec<f64> = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = sorted.get(middle)?;
    match sorted.len() % 2 {
        1 => Some(*upper),
        _ => sorted
            .get(middle.checked_sub(1)?)
            .map(|l| (l + upper) / 2.0),
    }
}

/// The median absolute deviation from the median, scaled to a standard deviation.
pub fn deviation(values: &[f64]) -> Option<f64> {
    let middle = median(values)?;
    let away: Vec<f64> = values.iter().map(|v| (v - middle).abs()).collect();
    median(&away).map(|mad| mad * NORMAL)
}

/// How far is too far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Beyond this a change is unexpected.
    pub odd: f64,
    /// Beyond this it is a failure of quality.
    pub gross: f64,
}

/// The limits for one more change, from the absolute sizes of earlier ones. `slack` is what chance
/// alone does to so few values.
///
/// With the two good releases that are the least (one change between them) 35 % are odd and half as
/// much again is gross; from five releases on it is 10 % and 28 %, unless earlier changes were
/// larger.
pub fn limits(earlier: &[f64], slack: f64) -> Limits {
    let releases = earlier.len() + 1;
    let (floor, gross, times) = match releases {
        ..3 => (0.30, 0.405, 1.3),
        3..5 => (0.20, 0.405, 1.5),
        _ => (0.10, 0.25, 2.0),
    };
    let usual = median(earlier).unwrap_or(0.0);
    let spread = deviation(earlier).unwrap_or(0.0);
    let largest = earlier.iter().copied().fold(0.0, f64::max);
    let odd = f64::max(floor, usual + DEVIATIONS * spread).max(1.2 * largest) + slack;
    Limits {
        odd,
        gross: f64::max(gross + slack, times * odd),
    }
}

/// What the values of a relation may have been multiplied by, as far as the relations that it is
/// made from explain it: at least the first, at most the second. Nothing need have changed at all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// At most 1.
    pub low: f64,
    /// At least 1.
    pub high: f64,
}

impl Scale {
    /// Nothing explains a change.
    pub const NONE: Self = Self {
        low: 1.0,
        high: 1.0,
    };

    /// Takes in that something else was multiplied by this.
    #[must_use]
    pub fn with(self, ratio: f64) -> Self {
        match ratio.is_finite() && ratio > 0.0 {
            true => Self {
                low: self.low.min(ratio),
                high: self.high.max(ratio),
            },
            false => self,
        }
    }
}

/// By how much a positive value is outside of what explains it, as a logarithm: positive above,
/// negative below, zero within.
pub fn departure(before: f64, now: f64, scale: Scale) -> Option<f64> {
    (before > 0.0 && now > 0.0).then(|| {
        let above = (now / (before * scale.high)).ln();
        let below = (now / (before * scale.low)).ln();
        if above > 0.0 {
            above
        } else if below < 0.0 {
            below
        } else {
            0.0
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_outlier_moves_neither_median_nor_deviation_far() {
        let calm = [0.01, 0.012, 0.011, 0.009, 0.01];
        let mut struck = calm.to_vec();
        struck.push(5.0);
        assert!(deviation(&struck).unwrap() < 0.005);
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0]), Some(2.0));
    }

    #[test]
    fn a_history_that_never_changed_does_not_make_every_change_a_failure() {
        let limits = limits(&[0.0; 10], 0.0);
        assert_eq!(limits.odd, 0.10);
        assert!(limits.gross > limits.odd);
    }

    #[test]
    fn double_is_gross_and_a_fifth_more_is_nothing_with_two_releases() {
        let limits = limits(&[0.05], 0.0);
        assert!(2_f64.ln() > limits.gross);
        assert!(1.2_f64.ln() < limits.odd);
    }

    proptest! {
        #[test]
        fn what_a_good_release_did_before_is_within_bounds(
            earlier in proptest::collection::vec(0.0_f64..3.0, 1..20), which in any::<prop::sample::Index>()
        ) {
            let again = earlier[which.index(earlier.len())];
            prop_assert!(again <= limits(&earlier, 0.0).odd);
        }

        #[test]
        fn what_the_inputs_explain_is_no_departure(
            before in 1.0_f64..1e9, ratio in 0.01_f64..100.0, part in 0.0_f64..=1.0
        ) {
            let scale = Scale::NONE.with(ratio);
            let now = before * (scale.low + part * (scale.high - scale.low));
            let far = departure(before, now, scale).unwrap();
            prop_assert!(far.abs() < 1e-9, "{}", far);
        }

        #[test]
        fn half_is_as_far_as_double(before in 1.0_f64..1e9, times in 1.0_f64..100.0) {
            let up = departure(before, before * times, Scale::NONE).unwrap();
            let down = departure(before, before / times, Scale::NONE).unwrap();
            prop_assert!((up + down).abs() < 1e-9);
        }
    }
}
