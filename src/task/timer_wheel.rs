//! Deadlines of tasks in flight: a hierarchical timing wheel, its entries linked by slot number.
//!
//! After Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (1987), scheme 7, with an
//! occupancy bitmap a level so that the next deadline is found without walking empty buckets.
//! Every task has a deadline and nearly every one ends long before it, so inserting and removing
//! must cost next to nothing: both touch a few words, where a delay queue costs 70 and 50 ns.

/// 2^18 ns: a tick is 262 µs, a quarter of what the runtime's own timer can tell apart.
const TICK_BITS: u32 = 18;
const LEVEL_BITS: u32 = 6;
const BUCKETS: usize = 1 << LEVEL_BITS;
/// 36 bits of ticks: 208 days. What is later waits in the last level and is sorted in again.
const LEVELS: usize = 6;
const HORIZON: u64 = 1 << (LEVEL_BITS as usize * LEVELS);
const NIL: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Node {
    next: u32,
    prev: u32,
    /// `level * BUCKETS + bucket`, or `NIL` when the slot isn't in the wheel.
    home: u32,
    tick: u64,
}

const LOOSE: Node = Node {
    next: NIL,
    prev: NIL,
    home: NIL,
    tick: 0,
};

pub(crate) struct TimerWheel {
    /// Everything up to and including this tick was handed out.
    elapsed: u64,
    heads: Box<[u32; LEVELS * BUCKETS]>,
    occupied: [u64; LEVELS],
    nodes: Vec<Node>,
}

impl TimerWheel {
    pub(crate) fn new() -> Self {
        TimerWheel {
            elapsed: 0,
            heads: Box::new([NIL; LEVELS * BUCKETS]),
            occupied: [0; LEVELS],
            nodes: Vec::new(),
        }
    }

    /// The tick that has passed once `nanos` have: rounded up, so that nothing expires early.
    pub(crate) fn tick_of(nanos: u64) -> u64 {
        (nanos >> TICK_BITS) + u64::from(nanos & ((1 << TICK_BITS) - 1) != 0)
    }

    /// The tick that has begun at `nanos`.
    pub(crate) fn tick_at(nanos: u64) -> u64 {
        nanos >> TICK_BITS
    }

    /// The time at which that tick begins.
    pub(crate) fn nanos_of(tick: u64) -> u64 {
        tick << TICK_BITS
    }

    /// Sets this slot's deadline, in place of any it had.
    pub(crate) fn insert(&mut self, slot: u32, tick: u64) {
        if slot as usize >= self.nodes.len() {
            self.nodes.resize(slot as usize + 1, LOOSE);
        }
        self.remove(slot);
        self.link(slot, tick);
    }

    fn link(&mut self, slot: u32, tick: u64) {
        // A deadline that is already due goes into the next tick, so that `expire` meets it.
        let at = tick.max(self.elapsed + 1).min(self.elapsed + HORIZON - 1);
        let level = level_of(self.elapsed, at);
        let bucket = (at >> (LEVEL_BITS as usize * level)) as usize & (BUCKETS - 1);
        let home = level * BUCKETS + bucket;
        let head = self.heads[home];
        self.nodes[slot as usize] = Node {
            next: head,
            prev: NIL,
            home: home as u32,
            tick,
        };
        if head != NIL {
            self.nodes[head as usize].prev = slot;
        }
        self.heads[home] = slot;
        self.occupied[level] |= 1 << bucket;
    }

    pub(crate) fn remove(&mut self, slot: u32) {
        let Some(&Node {
            next, prev, home, ..
        }) = self.nodes.get(slot as usize)
        else {
            return;
        };
        if home == NIL {
            return;
        }
        if prev == NIL {
            self.heads[home as usize] = next;
            if next == NIL {
                let (level, bucket) = (home as usize / BUCKETS, home as usize % BUCKETS);
                self.occupied[level] &= !(1 << bucket);
            }
        } else {
            self.nodes[prev as usize].next = next;
        }
        if next != NIL {
            self.nodes[next as usize].prev = prev;
        }
        self.nodes[slot as usize].home = NIL;
    }

    /// The tick at which `expire` has something to do: a deadline, or a level to sort in again.
    pub(crate) fn next_tick(&self) -> Option<u64> {
        self.next_bucket().map(|(_, _, tick)| tick)
    }

    /// The bucket that comes first: its level, its number and the tick at which it begins.
    fn next_bucket(&self) -> Option<(usize, usize, u64)> {
        for level in 0..LEVELS {
            if self.occupied[level] == 0 {
                continue;
            }
            let shift = LEVEL_BITS as usize * level;
            let here = (self.elapsed >> shift) as usize & (BUCKETS - 1);
            // From the bucket after this one: in the last level this one itself is a whole turn ahead.
            let from = here + 1;
            let ahead = self.occupied[level]
                .rotate_right(from as u32)
                .trailing_zeros() as usize;
            let bucket = (from + ahead) & (BUCKETS - 1);
            let turn = 1u64 << (shift + LEVEL_BITS as usize);
            let mut tick = (self.elapsed & !(turn - 1)) + ((bucket as u64) << shift);
            if tick <= self.elapsed {
                tick += turn;
            }
            return Some((level, bucket, tick));
        }
        None
    }

    /// Takes out the slots whose tick is at most `now`, in the order of their buckets. Stops once
    /// it has taken `most` or a few more; call again then.
    pub(crate) fn expire(&mut self, now: u64, most: usize, due: &mut Vec<u32>) {
        while due.len() < most {
            let Some((level, bucket, tick)) = self.next_bucket().filter(|next| next.2 <= now)
            else {
                self.elapsed = self.elapsed.max(now);
                return;
            };
            self.elapsed = tick;
            let home = level * BUCKETS + bucket;
            let mut slot = std::mem::replace(&mut self.heads[home], NIL);
            self.occupied[level] &= !(1 << bucket);
            while slot != NIL {
                let Node { next, tick, .. } = self.nodes[slot as usize];
                self.nodes[slot as usize].home = NIL;
                if level == 0 || tick <= self.elapsed {
                    due.push(slot);
                } else {
                    self.link(slot, tick);
                }
                slot = next;
            }
        }
    }
}

/// The level whose bucket tells `at` from `elapsed`.
fn level_of(elapsed: u64, at: u64) -> usize {
    let differs = 63 - ((elapsed ^ at) | (BUCKETS as u64 - 1)).leading_zeros();
    ((differs / LEVEL_BITS) as usize).min(LEVELS - 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn drain(wheel: &mut TimerWheel, now: u64) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.expire(now, usize::MAX, &mut due);
        due
    }

    #[test]
    fn a_tick_is_never_early() {
        for nanos in [0, 1, 1 << TICK_BITS, (1 << TICK_BITS) + 1, 4_000_000_000] {
            assert!(TimerWheel::nanos_of(TimerWheel::tick_of(nanos)) >= nanos);
        }
    }

    #[test]
    fn what_is_already_due_comes_with_the_next_tick() {
        let mut wheel = TimerWheel::new();
        assert!(drain(&mut wheel, 100).is_empty());
        wheel.insert(7, 3);
        assert_eq!(wheel.next_tick(), Some(101));
        assert_eq!(drain(&mut wheel, 101), [7]);
    }

    #[test]
    fn beyond_the_horizon_is_still_found() {
        let mut wheel = TimerWheel::new();
        wheel.insert(0, HORIZON * 3 + 5);
        let mut now = 0;
        while let Some(tick) = wheel.next_tick() {
            now = tick;
            if !drain(&mut wheel, now).is_empty() {
                break;
            }
        }
        assert_eq!(now, HORIZON * 3 + 5);
    }

    #[derive(Clone, Debug)]
    enum Do {
        Insert(u32, u64),
        Remove(u32),
        Advance(u64, usize),
    }

    fn script() -> impl Strategy<Value = Vec<Do>> {
        let ahead = prop_oneof![0..70u64, 0..5_000u64, 0..300_000u64, 0..20_000_000u64];
        let step = prop_oneof![
            3 => (0..40u32, ahead.clone()).prop_map(|(slot, by)| Do::Insert(slot, by)),
            1 => (0..40u32).prop_map(Do::Remove),
            2 => (ahead, 1..50usize).prop_map(|(by, most)| Do::Advance(by, most)),
        ];
        proptest::collection::vec(step, 1..120)
    }

    proptest! {
        #[test]
        fn agrees_with_a_sorted_map(script in script()) {
            let mut wheel = TimerWheel::new();
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            let mut now = 0;
            for step in script {
                match step {
                    Do::Insert(slot, by) => {
                        wheel.insert(slot, now + by);
                        model.insert(slot, (now + by).max(now + 1));
                    }
                    Do::Remove(slot) => {
                        wheel.remove(slot);
                        model.remove(&slot);
                    }
                    Do::Advance(by, most) => {
                        now += by;
                        loop {
                            let mut due = Vec::new();
                            wheel.expire(now, most, &mut due);
                            for slot in &due {
                                let tick = model.remove(slot);
                                prop_assert!(tick.is_some_and(|tick| tick <= now), "{slot} {tick:?} {now}");
                            }
                            if due.len() < most {
                                break;
                            }
                        }
                        prop_assert!(model.values().all(|tick| *tick > now));
                    }
                }
                if let Some(first) = model.values().min() {
                    prop_assert!(wheel.next_tick().is_some_and(|tick| tick <= *first && tick > now));
                } else {
                    prop_assert_eq!(wheel.next_tick(), None);
                }
            }
        }
    }
}
