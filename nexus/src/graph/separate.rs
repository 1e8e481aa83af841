//! Moves variables as little as possible away from where they want to be, until they keep their
//! distances. Leaves it to others what the variables are.
//!
//! It is the first half of the method of Dwyer, Marriott and Stuckey ("Fast node overlap removal"):
//! variables that press against one another become a block that stands at the mean of their wishes.
//! For a single row this is the best there is.

/// Where a variable wants to be, and how much.
#[derive(Clone, Copy)]
pub struct Wish {
    /// Where.
    pub at: f64,
    /// How much; more than 0.
    pub weight: f64,
}

/// The distances to what comes before a variable: which one, and how far at least.
pub type Before = Vec<(usize, f64)>;

/// Differences below it are none.
const NOTHING: f64 = 1e-6;

#[derive(Default)]
struct Block {
    members: Vec<usize>,
    weight: f64,
    /// The weighted sum of where the members want the block to be.
    sum: f64,
}

impl Block {
    fn position(&self) -> f64 {
        self.sum / self.weight
    }
}

/// Gives each variable a place. Each is named in `before` only by later ones.
pub fn separate(wishes: &[Wish], before: &[Before]) -> Vec<f64> {
    let mut blocks: Vec<Block> = Vec::with_capacity(wishes.len());
    let mut block_of: Vec<usize> = Vec::with_capacity(wishes.len());
    let mut offset = vec![0.0; wishes.len()];
    for (variable, wish) in wishes.iter().enumerate() {
        block_of.push(variable);
        blocks.push(Block {
            members: vec![variable],
            weight: wish.weight,
            sum: wish.weight * wish.at,
        });
        while let Some((left, right, distance)) =
            most_violated(&blocks, &block_of, &offset, before, variable)
        {
            let moved = std::mem::take(&mut blocks[block_of[right]]);
            let shift = offset[left] + distance - offset[right];
            let into = block_of[left];
            for member in moved.members {
                offset[member] += shift;
                block_of[member] = into;
                blocks[into].members.push(member);
            }
            blocks[into].sum += moved.sum - moved.weight * shift;
            blocks[into].weight += moved.weight;
        }
    }
    let place = |variable: usize| blocks[block_of[variable]].position() + offset[variable];
    (0..wishes.len()).map(place).collect()
}

/// The distance that is kept the least between the block of the newest variable and another.
fn most_violated(
    blocks: &[Block],
    block_of: &[usize],
    offset: &[f64],
    before: &[Before],
    newest: usize,
) -> Option<(usize, usize, f64)> {
    let block = block_of[newest];
    let place = |variable: usize| blocks[block_of[variable]].position() + offset[variable];
    let mut worst = NOTHING;
    let mut found = None;
    for &right in &blocks[block].members {
        for &(left, distance) in &before[right] {
            let violation = place(left) + distance - place(right);
            if block_of[left] != block && violation > worst {
                worst = violation;
                found = Some((left, right, distance));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(at: f64) -> Wish {
        Wish { at, weight: 1.0 }
    }

    #[test]
    fn what_has_room_stays_where_it_wants_to_be() {
        let places = separate(&[wish(0.0), wish(10.0)], &[vec![], vec![(0, 5.0)]]);
        assert_eq!(places, [0.0, 10.0]);
    }

    #[test]
    fn what_presses_against_one_another_stands_around_its_middle() {
        let before = [vec![], vec![(0, 10.0)], vec![(1, 10.0)]];
        assert_eq!(separate(&[wish(3.0); 3], &before), [-7.0, 3.0, 13.0]);
    }

    #[test]
    fn one_variable_keeps_its_distance_to_several() {
        let before = [vec![], vec![], vec![(0, 10.0), (1, 4.0)]];
        let places = separate(&[wish(0.0), wish(8.0), wish(2.0)], &before);
        assert!(places[2] - places[0] > 9.99 && places[2] - places[1] > 3.99);
    }
}
