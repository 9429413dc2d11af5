//! Makes a long story that ends badly a short one: delta debugging (Zeller, Hildebrandt 2002) on its steps.

/// The shortest story found that still `fails`, within so many tries. The steps given fail, so they are not tried.
///
/// Parts are left out, halves first, then quarters, down to single steps; what can be left out stays out.
pub fn shrink<T: Clone>(steps: &[T], tries: usize, mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut shortest = steps.to_vec();
    let mut size = shortest.len().div_ceil(2);
    let mut tried = 0;
    while size > 0 {
        let (mut start, mut shorter) = (0, false);
        while start < shortest.len() {
            let end = (start + size).min(shortest.len());
            let rest = [&shortest[..start], &shortest[end..]].concat();
            if tried == tries {
                return shortest;
            }
            tried += 1;
            if !rest.is_empty() && fails(&rest) {
                (shortest, shorter) = (rest, true);
            } else {
                start = end;
            }
        }
        if size == 1 && !shorter {
            break;
        }
        size = if size == 1 { 1 } else { size.div_ceil(2) };
    }
    shortest
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: usize = 10_000;

    fn steps() -> Vec<u32> {
        (0..64).collect()
    }

    #[test]
    fn what_has_no_part_in_the_failure_is_left_out() {
        let guilty = [3, 17, 40];
        let fails = |steps: &[u32]| guilty.iter().all(|step| steps.contains(step));
        assert_eq!(shrink(&steps(), MANY, fails), guilty);
    }

    #[test]
    fn the_order_stays_and_one_step_may_be_enough() {
        assert_eq!(shrink(&steps(), MANY, |steps| steps.contains(&63)), [63]);
        let fails = |steps: &[u32]| steps.windows(2).filter(|pair| pair[0] < pair[1]).count() >= 1;
        assert_eq!(shrink(&steps(), MANY, fails).len(), 2);
    }

    #[test]
    fn tries_are_bounded_and_what_is_left_fails() {
        let mut tries = 0;
        let fails = |steps: &[u32]| {
            tries += 1;
            steps.contains(&5) && steps.contains(&60)
        };
        let shortest = shrink(&steps(), 10, fails);
        assert!(shortest.contains(&5) && shortest.contains(&60) && shortest.len() < 64, "{shortest:?}");
        assert_eq!(tries, 10);
    }

    #[test]
    fn a_story_of_which_every_step_counts_stays() {
        assert_eq!(shrink(&[1, 2, 3], MANY, |steps| steps == [1, 2, 3]), [1, 2, 3]);
    }
}
