mod peers;
mod work;

fn main() {
    println!("{:?}", peers::SYSTEMS);
    let params = work::Params::new(work::Workload::Hop, 0.1);
    for system in peers::SYSTEMS {
        if let Some(Ok(measure)) = peers::run(system, &params) {
            println!("{system} {} {}", measure.seconds, measure.done);
        }
    }
}
