//! Takes small turns out of long edges: the bends of one edge move into one column as far down as their
//! neighbours leave room. Leaves everything but bends where it is.

/// What the bends of a box have around them; bodies by their index in it.
pub struct Room<'a> {
    /// For each body, those on its left in its rows, with the least distances.
    pub left: &'a [Vec<(usize, i64)>],
    /// The same for its right.
    pub right: &'a [Vec<(usize, i64)>],
    /// For each bend, the bodies that its edge comes from, with what would be added to their middles
    /// for the bend to stand straight under them.
    pub above: &'a [Vec<(usize, i64)>],
    /// The same for those that its edges go to.
    pub below: &'a [Vec<(usize, i64)>],
}

/// Moves the bends. They are given from the top to the bottom.
pub fn straighten(room: &Room<'_>, bends: &[usize], middle: &mut [i64]) {
    let mut is_left = vec![false; middle.len()];
    for &bend in bends {
        is_left[bend] = true;
    }
    for &bend in bends {
        if !is_left[bend] {
            continue;
        }
        let mut run = vec![bend];
        let (mut least, mut most) = free(room, bend, middle);
        is_left[bend] = false;
        while let Some(next) = next_bend(room, run[run.len() - 1], &is_left) {
            let (left, right) = free(room, next, middle);
            if least.max(left) > most.min(right) {
                break;
            }
            (least, most) = (least.max(left), most.min(right));
            is_left[next] = false;
            run.push(next);
        }
        let column = column(room, &run, (least, most), middle);
        for bend in run {
            middle[bend] = column;
        }
    }
}

/// From where to where a body can move, as all others stand.
fn free(room: &Room<'_>, body: usize, middle: &[i64]) -> (i64, i64) {
    let left = room.left[body].iter();
    let right = room.right[body].iter();
    let least = left
        .map(|&(other, distance)| middle[other] + distance)
        .max();
    let most = right
        .map(|&(other, distance)| middle[other] - distance)
        .min();
    (least.unwrap_or(i64::MIN), most.unwrap_or(i64::MAX))
}

fn next_bend(room: &Room<'_>, bend: usize, is_left: &[bool]) -> Option<usize> {
    let mut below = room.below[bend].iter().map(|&(other, _)| other);
    below.find(|&other| is_left[other])
}

/// The column of a run: straight under where the edge comes from or over where it goes to, if it can
/// be, and else near to where the bends are.
fn column(room: &Room<'_>, run: &[usize], (least, most): (i64, i64), middle: &[i64]) -> i64 {
    let count = i64::try_from(run.len()).unwrap_or(i64::MAX);
    let mean = run.iter().map(|&bend| middle[bend]).sum::<i64>() / count;
    let ends = room.above[run[0]]
        .iter()
        .chain(&room.below[run[run.len() - 1]]);
    let columns = ends.map(|&(other, difference)| middle[other] + difference);
    let fitting = columns.filter(|column| (least..=most).contains(column));
    let nearest = fitting.min_by_key(|column| (column - mean).abs());
    nearest.unwrap_or_else(|| mean.clamp(least, most))
}
