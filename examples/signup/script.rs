//! The whole script: a bank, a service, many clients, and everything that goes wrong meanwhile.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt, fs, io, mem,
    net::SocketAddr,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use actix_web::rt::{
    self,
    time::{sleep, timeout},
};
use awc::http::Method;
use serde_json::{Value, json};

use crate::{
    AnyError, Options,
    bank::REFUSED,
    checker::{self, Books, World},
    child::Child,
    client::{Answer, End, Plan, Service},
    dice::Dice,
};

/// Number of clients that send sign-ups side by side.
const CLIENTS: usize = 12;
/// Number of sign-ups that get stuck.
const STUCK: usize = 10;
/// Time for the whole script, far more than it takes.
const LIMIT: Duration = Duration::from_secs(180);

/// The two servers, and what was done to them.
struct Servers {
    folder: PathBuf,
    seed: u64,
    bank: Option<Child>,
    service: Option<Child>,
    bank_at: SocketAddr,
    service_at: SocketAddr,
    kills: usize,
    stops: usize,
    bank_kills: u64,
}

impl Servers {
    async fn start(folder: &Path, seed: u64) -> Result<Self, AnyError> {
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut servers = Servers {
            folder: folder.to_owned(),
            seed,
            bank: None,
            service: None,
            bank_at: anywhere,
            service_at: anywhere,
            kills: 0,
            stops: 0,
            bank_kills: 0,
        };
        servers.start_bank().await?;
        servers.start_service().await?;
        Ok(servers)
    }

    /// Starts the bank, on the port that it had before.
    async fn start_bank(&mut self) -> Result<(), AnyError> {
        let port = self.bank_at.port().to_string();
        let seed = self.seed.wrapping_add(self.bank_kills).to_string();
        let folder = self.folder.to_string_lossy();
        let arguments = ["--bank", &port, "--seed", &seed, "--folder", &folder];
        let bank = Child::start(&arguments, &self.folder.join("bank.log")).await?;
        self.bank_at = bank.address;
        self.bank = Some(bank);
        Ok(())
    }

    async fn start_service(&mut self) -> Result<(), AnyError> {
        let port = self.service_at.port().to_string();
        let bank = self.bank_at.port().to_string();
        let folder = self.folder.to_string_lossy();
        let arguments = ["--serve", &port, "--bank-at", &bank, "--folder", &folder];
        let service = Child::start(&arguments, &self.folder.join("service.log")).await?;
        self.service_at = service.address;
        self.service = Some(service);
        Ok(())
    }

    async fn kill_bank(&mut self) -> Result<(), AnyError> {
        self.bank_kills += 1;
        self.bank.take().ok_or("there is no bank")?.kill().await?;
        Ok(())
    }

    async fn kill_service(&mut self) -> Result<(), AnyError> {
        self.kills += 1;
        self.service
            .take()
            .ok_or("there is no service")?
            .kill()
            .await?;
        Ok(())
    }

    async fn stop_service(&mut self) -> Result<(), AnyError> {
        self.stops += 1;
        self.service
            .take()
            .ok_or("there is no service")?
            .stop()
            .await
    }

    /// Takes the journal's file from under the service. It must accept nothing more, and end with exit
    /// code 1.
    async fn lose_the_journal(&mut self, clients: &Service) -> Result<(), AnyError> {
        let service = self.service.take().ok_or("there is no service")?;
        let [journal, away] =
            ["signups.journal", "journal-away"].map(|name| self.folder.join(name));
        fs::rename(journal, away)?;
        let body = json!({ "key": "lost", "name": "lost", "card": "card" });
        if let Some((202, _)) = clients.ask(Method::POST, "/signups", &body).await {
            return Err("a sign-up was accepted without a journal".into());
        }
        match service.end().await? {
            Some(1) => Ok(()),
            code => {
                Err(format!("without a journal, the service ended with exit code {code:?}").into())
            }
        }
    }
}

/// The sign-ups to come.
fn plans(number: usize, dice: &mut Dice) -> Vec<Plan> {
    let plan = |i| Plan {
        key: format!("signup-{i}"),
        name: match dice.below(10) {
            0 if i > 0 => format!("name-{}", dice.below(i)),
            _ => format!("name-{i}"),
        },
        card: match dice.below(10) {
            0 => format!("{REFUSED}{i}"),
            _ => format!("card-{i}"),
        },
        twice: dice.below(6) == 0,
        cancel: (dice.below(6) == 0).then(|| Duration::from_millis(dice.below(600))),
        regret: dice.below(10) == 0,
    };
    (0..number as u64).map(plan).collect()
}

/// Has the clients send their sign-ups.
async fn clients(service: &Service, plans: Vec<Plan>) -> Result<Vec<Answer>, AnyError> {
    let plans = Rc::new(RefCell::new(plans.into_iter()));
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let (service, plans) = (service.clone(), plans.clone());
        clients.push(rt::spawn(async move {
            let mut answers = Vec::new();
            loop {
                let plan = plans.borrow_mut().next();
                let Some(plan) = plan else { return Ok(answers) };
                answers.push(service.sign_up(&plan).await?);
            }
        }));
    }
    let mut answers = Vec::new();
    for client in clients {
        let of_it: Result<_, String> = client.await?;
        answers.extend(of_it?);
    }
    Ok(answers)
}

/// The mishaps while the clients are at it.
async fn mishaps(servers: &mut Servers, service: &Service, number: usize) -> Result<(), AnyError> {
    for (percent, what) in [
        (15, Mishap::ServiceKilled),
        (30, Mishap::ServiceKilled),
        (45, Mishap::BankKilled),
        (60, Mishap::ServiceKilled),
        (80, Mishap::ServiceStopped),
    ] {
        while service.ended() * 100 < number * percent {
            sleep(Duration::from_millis(10)).await;
        }
        println!("{:>10} have ended, {what}", service.ended());
        match what {
            Mishap::ServiceKilled => servers.kill_service().await?,
            Mishap::ServiceStopped => servers.stop_service().await?,
            Mishap::BankKilled => servers.kill_bank().await?,
        }
        sleep(Duration::from_millis(400)).await;
        match what {
            Mishap::ServiceKilled | Mishap::ServiceStopped => servers.start_service().await?,
            Mishap::BankKilled => servers.start_bank().await?,
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Mishap {
    /// By SIGKILL.
    ServiceKilled,
    /// By SIGTERM.
    ServiceStopped,
    /// By SIGKILL.
    BankKilled,
}

impl fmt::Display for Mishap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mishap::ServiceKilled => "the service is killed",
            Mishap::ServiceStopped => "the service is stopped by SIGTERM",
            Mishap::BankKilled => "the bank is killed",
        })
    }
}

/// Sign-ups that are cancelled while the bank is away for longer than their undos are tried again.
/// They are stuck, and are settled once the bank is back.
///
/// The outbox is away as well, so that they have been charged and can't be done.
async fn stuck(servers: &mut Servers, service: &Service) -> Result<Vec<Answer>, AnyError> {
    let [outbox, away] = ["outbox", "outbox-away"].map(|name| servers.folder.join(name));
    fs::rename(&outbox, &away)?;
    let plans = (0..STUCK).map(|i| Plan {
        key: format!("late-{i}"),
        name: format!("late-{i}"),
        card: format!("card-{i}"),
        twice: false,
        cancel: None,
        regret: false,
    });
    let plans: Vec<Plan> = plans.collect();
    for plan in &plans {
        service.submit(plan).await?;
    }
    let all_charged = async {
        while !charged(&servers.folder, &plans)? {
            sleep(Duration::from_millis(20)).await;
        }
        Ok::<_, io::Error>(())
    };
    // The bank may fail for as often as one of them is tried: the others will do.
    if let Ok(read) = timeout(Duration::from_secs(4), all_charged).await {
        read?;
    }
    servers.kill_bank().await?;
    let mut answers = Vec::new();
    for plan in &plans {
        service.cancel(&plan.key).await;
    }
    for plan in &plans {
        answers.push(service.end(plan, true).await?);
    }
    fs::rename(&away, &outbox)?;
    servers.start_bank().await?;
    Ok(answers)
}

/// Returns true if the bank has charged each of these.
fn charged(folder: &Path, plans: &[Plan]) -> io::Result<bool> {
    let standing = Books::read(folder)?.standing;
    Ok(plans.iter().all(|plan| standing.contains_key(&plan.key)))
}

/// Runs the script. Returns everything that is wrong, a line each.
async fn play(options: &Options, folder: &Path) -> Result<Vec<String>, AnyError> {
    let mut servers = Servers::start(folder, options.seed).await?;
    let service = Service::at(servers.service_at);
    match service.ask(Method::GET, "/ready", &Value::Null).await {
        Some((200, _)) => {}
        other => return Err(format!("the service isn't ready: {other:?}").into()),
    }

    let plans = plans(options.signups, &mut Dice(options.seed));
    println!("{} sign-ups by {CLIENTS} clients", plans.len());
    let number = plans.len();
    let (mut answers, ()) = futures::try_join!(
        clients(&service, plans),
        mishaps(&mut servers, &service, number)
    )?;
    println!("{STUCK} sign-ups are cancelled while the bank is away");
    answers.extend(stuck(&mut servers, &service).await?);

    let stuck = answers
        .iter()
        .filter(|answer| answer.end == End::Stuck)
        .count();
    println!("{stuck} sign-ups are stuck, and are tried again");
    let retry = service.ask(Method::POST, "/stuck/retry", &Value::Null);
    match retry.await {
        Some((202, _)) => {}
        other => return Err(format!("the stuck ones can't be tried again: {other:?}").into()),
    }
    let mut wrong = Vec::new();
    // Everything is sent once more: nothing is done again, and an answer that was given stands.
    for answer in &mut answers {
        service.submit(&answer.plan).await?;
        let now = service.end(&answer.plan, false).await?.end;
        let was = mem::replace(&mut answer.end, now);
        if was != answer.end && was != End::Stuck {
            let (key, now) = (&answer.plan.key, &answer.end);
            wrong.push(format!("{key} was {was}, then {now}"));
        }
    }
    println!("the journal's file is taken away, and the service ends");
    servers.lose_the_journal(&service).await?;

    if options.tamper {
        println!(
            "behind everybody's back, {} is removed",
            checker::tamper(folder)?
        );
    }
    let world = World::look(folder)?;
    show(&answers, &servers, &world.books);
    wrong.extend(world.check(&answers));
    if stuck < STUCK / 2 {
        wrong.push(format!("only {stuck} sign-ups got stuck"));
    }
    Ok(wrong)
}

fn show(answers: &[Answer], servers: &Servers, books: &Books) {
    let mut ends = BTreeMap::<&End, usize>::new();
    for answer in answers {
        *ends.entry(&answer.end).or_default() += 1;
    }
    println!("\n  sign-ups");
    for (end, number) in ends {
        println!("{number:>10}  {end}");
    }
    println!("  servers");
    println!("{:>10}  SIGKILLs of the service", servers.kills);
    println!(
        "{:>10}  SIGTERMs of the service, each with exit code 0",
        servers.stops
    );
    println!("{:>10}  SIGKILLs of the bank", servers.bank_kills);
    println!("  bank");
    println!("{:>10}  charges", books.charges);
    println!("{:>10}  refunds", books.refunds);
    println!(
        "{:>10}  charges that stand\n",
        books.standing.values().sum::<usize>()
    );
}

/// Runs the script and checks the world. Returns `true` if all is as it should be.
pub(crate) async fn run(options: &Options) -> Result<bool, AnyError> {
    let scratch = tempfile::Builder::new().prefix("signup-").tempdir()?;
    let folder = options.folder.as_deref().unwrap_or(scratch.path());
    fs::create_dir_all(folder)?;
    if fs::read_dir(folder)?.next().is_some() {
        return Err(format!("{} isn't empty", folder.display()).into());
    }
    let wrong = tokio::select! {
        wrong = play(options, folder) => wrong?,
        () = sleep(LIMIT) => return Err(format!("it wasn't over after {LIMIT:?}").into()),
        // Not at once, so that the folder is removed.
        _ = rt::signal::ctrl_c() => return Err("interrupted".into()),
    };
    for line in &wrong {
        println!("WRONG: {line}");
    }
    match options.folder {
        _ if wrong.is_empty() => {
            println!("world: each sign-up is wholly there or not at all, as its client was told");
        }
        None => println!("with --folder, the files and the servers' logs are kept"),
        Some(_) => println!(
            "the files and the servers' logs are in {}",
            folder.display()
        ),
    }
    Ok(wrong.is_empty())
}
