//! The plan of each task, decided by its number alone: the child follows it, the checker knows it.

use crate::log::{How, Told, Went};

pub(crate) const STAGES: u16 = 3;

/// Numbers this far apart have the same key: each is the next one's forerunner. Even.
const LIFE: u64 = 1_000_000_000_000;

/// The key of a task.
pub(crate) fn key(number: u64) -> String {
    (number % LIFE).to_string()
}

/// The task that gets the same key once this one is forgotten.
pub(crate) fn next_life(number: u64) -> u64 {
    number + LIFE
}

/// The plan of a task.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) steps: [Step; STAGES as usize],
    pub(crate) timeout_ms: Option<u64>,
    /// Its ticket's `cancel` is called after so long.
    pub(crate) cancel_after_ms: Option<u64>,
    /// It is submitted without a wait for its record.
    pub(crate) now: bool,
}

/// The plan of a task in one stage.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// The number of undos it registers, each before an effect.
    pub(crate) undos: u32,
    /// It registers one more, and withdraws that.
    pub(crate) withdraws: bool,
    pub(crate) act: Act,
    /// The behaviour of its first undo, be it the withdrawn one. The others work.
    pub(crate) back: Back,
    pub(crate) pause_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Pass,
    /// The first attempt fails, any other passes.
    FailFirst,
    FailEvery,
    FailForGood,
    Panic,
    Hang,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Back {
    Works,
    FailsFirst,
    PanicsFirst,
    FailsAlways,
    /// More often than one rollback tries it.
    FailsLong,
}

/// The number of runs of an undo that [`Back::FailsLong`] lets fail.
pub(crate) const LONG: u32 = 4;

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

impl Plan {
    /// Everything passes, one undo a stage.
    pub(crate) fn plain() -> Self {
        let step = Step {
            undos: 1,
            withdraws: false,
            act: Act::Pass,
            back: Back::Works,
            pause_ms: 0,
        };
        Plan {
            steps: [step; STAGES as usize],
            timeout_ms: None,
            cancel_after_ms: None,
            now: false,
        }
    }

    pub(crate) fn of(seed: u64, number: u64) -> Self {
        let mut numbers = Numbers(seed ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93));
        let mut plan = Plan::plain();
        for step in &mut plan.steps {
            step.undos = [0, 1, 1, 1, 2, 3][numbers.below(6) as usize];
            step.withdraws = numbers.below(8) == 0;
            step.pause_ms = [0, 0, 1, 3][numbers.below(4) as usize];
        }
        let stage = numbers.below(STAGES.into()) as usize;
        let act = match numbers.below(20) {
            0..=1 => Act::FailForGood,
            2 => Act::Panic,
            3 => Act::Hang,
            4 => Act::FailEvery,
            5..=7 => Act::FailFirst,
            _ => Act::Pass,
        };
        plan.steps[stage].act = act;
        // The stage that fails, or any other one.
        let stage = numbers.below(STAGES.into()) as usize;
        plan.steps[stage].back = match numbers.below(12) {
            0..=1 => Back::FailsFirst,
            2 => Back::PanicsFirst,
            3 => Back::FailsAlways,
            4..=5 => Back::FailsLong,
            _ => Back::Works,
        };
        if act == Act::Hang || numbers.below(25) == 0 {
            plan.timeout_ms = Some(10 + numbers.below(50));
        }
        if numbers.below(12) == 0 {
            plan.cancel_after_ms = Some(numbers.below(30));
        }
        plan.now = numbers.below(4) == 0;
        plan
    }

    /// True if a task may have ended like this by itself or by its ticket: the journal was started `starts`
    /// times since the task was submitted, `rolled_back` of them to roll back.
    pub(crate) fn allows(&self, told: &Told, starts: u32, rolled_back: u32) -> bool {
        let some = |act| self.steps.iter().any(|step| step.act == act);
        // A kill may come before the one undo that there is was withdrawn.
        let has_undos = |step: &Step| step.undos > 0 || step.withdraws;
        let gets_stuck = |step: &Step| {
            has_undos(step) && matches!(step.back, Back::FailsAlways | Back::FailsLong)
        };
        match told.end {
            How::Done => self
                .steps
                .iter()
                .all(|step| matches!(step.act, Act::Pass | Act::FailFirst)),
            How::Permanent => some(Act::FailForGood),
            How::Panic => some(Act::Panic),
            How::Error => self.steps.iter().any(|step| match step.act {
                Act::FailEvery => true,
                // There is no second one without a clean-up, or without the time for it.
                Act::FailFirst => gets_stuck(step) || self.timeout_ms.is_some(),
                _ => false,
            }),
            How::Interrupted => starts >= 3 || starts > 0 && self.steps.iter().any(gets_stuck),
            How::Quarantined => starts >= 3 && matches!(told.went, Went::Stuck(_)),
            How::TimedOut => self.timeout_ms.is_some(),
            How::User => self.cancel_after_ms.is_some(),
            How::Recovery => rolled_back > 0,
            How::TakenBack | How::Other => false,
        }
    }
}
