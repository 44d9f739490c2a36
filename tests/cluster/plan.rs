//! The plan of each task, decided by its number alone: nodes follow it, the checker knows it.

pub(crate) const STAGES: u16 = 3;

/// Tasks from this number on are submitted by several nodes, with the same key.
pub(crate) const SHARED: u64 = 1_000_000_000_000;

/// Each process has this many numbers of its own.
pub(crate) const NUMBERS: u64 = 1_000_000;

/// The plan of a task in one stage.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// The number of its effects, each with an undo.
    pub(crate) effects: u32,
    pub(crate) act: Act,
    pub(crate) back: Back,
    pub(crate) pause_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Pass,
    /// The first attempt fails, any other passes.
    FailFirst,
    FailForGood,
}

/// The behaviour of the first undo of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Back {
    Works,
    FailsFirst,
    FailsAlways,
}

/// Numbers from a seed, always the same ones.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    /// SplitMix64.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// The plan of a task, a step for each stage.
pub(crate) fn plan(seed: u64, number: u64) -> [Step; STAGES as usize] {
    let mut numbers = Numbers(seed ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93));
    let mut steps = [plain(); STAGES as usize];
    for step in &mut steps {
        step.effects = [0, 1, 1, 2][numbers.below(4) as usize];
        step.pause_ms = [0, 0, 5, 40][numbers.below(4) as usize];
    }
    steps[numbers.below(STAGES.into()) as usize].act = match numbers.below(10) {
        0..=1 => Act::FailForGood,
        2..=3 => Act::FailFirst,
        _ => Act::Pass,
    };
    steps[numbers.below(STAGES.into()) as usize].back = match numbers.below(40) {
        0 => Back::FailsAlways,
        1..=6 => Back::FailsFirst,
        _ => Back::Works,
    };
    steps
}

/// One effect, and everything works.
pub(crate) fn plain() -> Step {
    Step {
        effects: 1,
        act: Act::Pass,
        back: Back::Works,
        pause_ms: 0,
    }
}
