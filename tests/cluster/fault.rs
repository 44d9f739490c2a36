//! The kinds of faults, and the decks that they are drawn from, so that none is left out.

use std::{collections::BTreeMap, fmt, time::Duration};

use crate::{
    child::LEASE,
    plan::Numbers,
    proxy::{Cut, Way},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// SIGKILL of a node.
    Kill,
    /// SIGSTOP of a node until after its lease, then SIGCONT.
    Stop,
    /// SIGKILL of a node, and another one loses its connection just after it has claimed the tasks.
    KillAndCut,
    /// A node ends as it is told to.
    Handover,
    /// Nothing passes from a node to the server, or the other way.
    Hold(Way, Length),
    /// The same to the server on the connections that there are, while new ones pass.
    HoldOpenOnes(Length),
    /// It all passes later, both ways.
    Delay(Length),
    Cut(Cut),
    /// The server is stopped without ado, and started again.
    Restart,
    /// All processes of the server stand still.
    Freeze(Length),
    /// The server is stopped properly, and started again later.
    Shutdown(Length),
    /// The primary is killed, and its synchronous standby takes its place.
    Promotion,
    /// A transaction locks rows of tasks.
    Locks,
    /// A transaction with a snapshot and locks of tasks and of a node.
    IdleTransaction(Length),
}

/// The length of a fault, beside the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Length {
    Short,
    Long,
}

use Length::{Long, Short};

impl Length {
    pub(crate) fn time(self, numbers: &mut Numbers) -> Duration {
        let percent = match self {
            Short => 15 + numbers.below(40),
            Long => 115 + numbers.below(80),
        };
        LEASE * percent as u32 / 100
    }
}

const OF_NODES: &[Kind] = &[
    Kind::Kill,
    Kind::Kill,
    Kind::Kill,
    Kind::Stop,
    Kind::Stop,
    Kind::KillAndCut,
    Kind::Handover,
    Kind::Hold(Way::ToServer, Short),
    Kind::Hold(Way::ToServer, Long),
    Kind::Hold(Way::ToNode, Short),
    Kind::Hold(Way::ToNode, Long),
    Kind::HoldOpenOnes(Long),
    Kind::Delay(Short),
    Kind::Delay(Long),
    Kind::Cut(Cut::BeforeCommit),
    Kind::Cut(Cut::AfterCommit),
];

const OF_THE_DATABASE: &[Kind] = &[
    Kind::Restart,
    Kind::Freeze(Short),
    Kind::Freeze(Long),
    Kind::Shutdown(Short),
    Kind::Shutdown(Long),
    Kind::Promotion,
    Kind::Locks,
    Kind::IdleTransaction(Short),
    Kind::IdleTransaction(Long),
];

impl Kind {
    pub(crate) fn is_of_the_database(self) -> bool {
        OF_THE_DATABASE.contains(&self)
    }

    /// No node comes through, as each one's lease runs out.
    pub(crate) fn ends_all(self) -> bool {
        matches!(self, Kind::Freeze(Long) | Kind::Shutdown(Long))
    }
}

/// Faults in a random order, each kind in its turn.
pub(crate) struct Decks {
    of_nodes: Deck,
    of_the_database: Deck,
    rounds: usize,
}

/// The faults of a round, in turn: of nodes, and of the database.
const ROUNDS: [(usize, usize); 4] = [(1, 0), (0, 1), (2, 0), (2, 1)];

impl Decks {
    pub(crate) fn new() -> Self {
        Decks {
            of_nodes: Deck::of(OF_NODES),
            of_the_database: Deck::of(OF_THE_DATABASE),
            rounds: 0,
        }
    }

    /// The faults of the next round, which happen at the same time.
    pub(crate) fn draw(&mut self, numbers: &mut Numbers, at_most: u64) -> Vec<Kind> {
        let (nodes, databases) = ROUNDS[self.rounds % ROUNDS.len()];
        self.rounds += 1;
        let mut round = Vec::new();
        for _ in 0..databases {
            round.push(self.of_the_database.draw(numbers));
        }
        for _ in 0..nodes {
            let kind = self.of_nodes.draw(numbers);
            // A claim comes for certain only if nothing else goes wrong.
            if kind == Kind::KillAndCut && !round.is_empty() {
                self.of_nodes.left.push(kind);
                break;
            }
            round.push(kind);
            if kind == Kind::KillAndCut {
                break;
            }
        }
        round.truncate(at_most as usize);
        round
    }
}

struct Deck {
    all: &'static [Kind],
    left: Vec<Kind>,
}

impl Deck {
    fn of(all: &'static [Kind]) -> Self {
        let left = Vec::new();
        Deck { all, left }
    }

    fn draw(&mut self, numbers: &mut Numbers) -> Kind {
        if self.left.is_empty() {
            self.left = self.all.to_vec();
            for at in (1..self.left.len()).rev() {
                let other = numbers.below(at as u64 + 1) as usize;
                self.left.swap(at, other);
            }
        }
        self.left.pop().unwrap()
    }
}

/// The faults that there were.
#[derive(Default)]
pub(crate) struct Counts {
    kinds: BTreeMap<Kind, Count>,
    pub(crate) failed_starts: u32,
}

#[derive(Clone, Copy, Default)]
struct Count {
    times: u64,
    /// Its effect, in a measure of its own.
    effects: u64,
    /// The nodes that ended by themselves in such rounds.
    gave_up: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, kind: Kind, effects: u64) {
        let count = self.kinds.entry(kind).or_default();
        count.times += 1;
        count.effects += effects;
    }

    pub(crate) fn gave_up(&mut self, round: &[Kind]) {
        for kind in round {
            self.kinds.entry(*kind).or_default().gave_up += 1;
        }
    }

    /// There were faults after which tasks of nodes in this state are taken over.
    pub(crate) fn took_over_from(&self, state: &str) -> bool {
        let kind = match state {
            "left" => Kind::Handover,
            _ => Kind::Kill,
        };
        self.kinds.get(&kind).is_some_and(|count| count.times > 3)
    }

    /// The kinds of faults that did nothing.
    pub(crate) fn without_effect(&self) -> Vec<Kind> {
        let kinds = self.kinds.iter();
        let kinds = kinds.filter(|(_, count)| count.times > 0 && count.effects == 0);
        kinds.map(|(kind, _)| *kind).collect()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "faults, their effects, and the nodes that ended by themselves in their rounds:"
        )?;
        for (kind, count) in &self.kinds {
            let Count {
                times,
                effects,
                gave_up,
            } = count;
            writeln!(f, "  {times:3} {effects:5} {gave_up:4}  {kind:?}")?;
        }
        write!(f, "{} starts that failed", self.failed_starts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_among_sixty_faults_and_a_claim_is_cut_off_alone() {
        for seed in 0..200 {
            let (mut numbers, mut decks) = (Numbers(seed), Decks::new());
            let mut drawn = Vec::new();
            while drawn.len() < 60 {
                let round = decks.draw(&mut numbers, 60 - drawn.len() as u64);
                assert!(!round.is_empty() && round.len() <= 3);
                assert!(
                    round.len() == 1 || !round.contains(&Kind::KillAndCut),
                    "{round:?}"
                );
                drawn.extend(round);
            }
            for kind in OF_NODES.iter().chain(OF_THE_DATABASE) {
                assert!(drawn.contains(kind), "{kind:?}");
            }
        }
    }

    #[test]
    fn a_kind_without_an_effect_is_named() {
        let mut counts = Counts::default();
        counts.gave_up(&[Kind::Kill]);
        counts.add(Kind::Stop, 0);
        counts.add(Kind::Locks, 0);
        counts.add(Kind::Locks, 3);
        assert_eq!(counts.without_effect(), [Kind::Stop]);
    }
}
