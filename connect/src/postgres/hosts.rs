//! The servers of an address, one by one: a silent one must not take the time that is for the others.

use tokio_postgres::config::{Config, Host};

/// The address for each of its servers alone, in their order.
pub fn each_host(config: &Config) -> Vec<Config> {
    let (hosts, addresses) = (config.get_hosts(), config.get_hostaddrs());
    let count = hosts.len().max(addresses.len());
    if count < 2 {
        return vec![config.clone()];
    }
    (0..count).map(|at| alone(config, at)).collect()
}

fn alone(all: &Config, at: usize) -> Config {
    let mut one = Config::new();
    match all.get_hosts().get(at) {
        Some(Host::Tcp(host)) => drop(one.host(host)),
        #[cfg(unix)]
        Some(Host::Unix(path)) => drop(one.host_path(path)),
        None => {}
    }
    if let Some(address) = all.get_hostaddrs().get(at) {
        one.hostaddr(*address);
    }
    // One port is that of all.
    let ports = all.get_ports();
    if let Some(port) = ports.get(at).or_else(|| ports.first()) {
        one.port(*port);
    }
    if let Some(user) = all.get_user() {
        one.user(user);
    }
    if let Some(password) = all.get_password() {
        one.password(password);
    }
    if let Some(name) = all.get_dbname() {
        one.dbname(name);
    }
    if let Some(options) = all.get_options() {
        one.options(options);
    }
    if let Some(name) = all.get_application_name() {
        one.application_name(name);
    }
    if let Some(time) = all.get_connect_timeout() {
        one.connect_timeout(*time);
    }
    if let Some(time) = all.get_tcp_user_timeout() {
        one.tcp_user_timeout(*time);
    }
    if let Some(time) = all.get_keepalives_interval() {
        one.keepalives_interval(time);
    }
    if let Some(retries) = all.get_keepalives_retries() {
        one.keepalives_retries(retries);
    }
    one.keepalives(all.get_keepalives())
        .keepalives_idle(all.get_keepalives_idle())
        .ssl_mode(all.get_ssl_mode())
        .ssl_negotiation(all.get_ssl_negotiation())
        .channel_binding(all.get_channel_binding())
        .target_session_attrs(all.get_target_session_attrs());
    one
}

#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn each_server_has_all_else_of_the_address() {
        let text = "host=a,/run/pg,c hostaddr=10.0.0.1,10.0.0.2,10.0.0.3 port=1,2,3 user=u password=p \
                    dbname=d options='-c x=y' application_name=n connect_timeout=4 tcp_user_timeout=5 \
                    keepalives_idle=6 keepalives_interval=7 keepalives_retries=8 sslmode=require \
                    target_session_attrs=read-write channel_binding=require";
        let all: Config = text.parse().expect("it is an address");
        let each = each_host(&all);
        for (at, host) in ["a", "/run/pg", "c"].into_iter().enumerate() {
            let one = format!("host={host} hostaddr=10.0.0.{} port={0}", at + 1);
            let rest = text.split_once(" user=").map(|(_, rest)| rest);
            let one = format!("{one} user={}", rest.unwrap_or_default());
            assert_eq!(each[at], one.parse().expect("it is an address"), "{one}");
        }
        assert_eq!(each.len(), 3);
    }

    #[test]
    fn one_port_is_that_of_all_and_one_server_stays_as_it_is() {
        let all: Config = "host=a,b port=7".parse().expect("it is an address");
        let ports = each_host(&all);
        let ports: Vec<_> = ports.iter().map(|one| one.get_ports().to_vec()).collect();
        assert_eq!(ports, [[7], [7]]);
        let one: Config = "host=a user=u".parse().expect("it is an address");
        assert_eq!(each_host(&one), [one]);
    }
}
