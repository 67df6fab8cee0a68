//! The gateway as a witness of other gateways: `/witness/add-checkpoint` beside its API, with a key and a state of its own in
//! its state directory. The law by which it cosigns is the store's; its HTTP is that of `chancery witness`.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use chancery_gateway::Gateway;
use chancery_ledger::{LogVerifier, Roots};
use chancery_store::{Cosigned, Witness, WitnessError, WitnessState};
use tokio::sync::Semaphore;

use crate::commands::ledger::own_roots;
use crate::commands::witness;
use crate::config::Configuration;
use crate::local::WITNESS;
use crate::output::Failure;

/// Requests at once: the witness answers one after the other, and each may have to wait for the disk.
const AT_ONCE: usize = 8;
/// A log asks twice in five seconds at most; several logs may stand behind one address.
const REFILL_A_SECOND: f64 = 8.0;
const BURST: f64 = 64.0;
/// Addresses that are told apart. Those that did not ask for a while are forgotten first; past it, all others share one.
const ADDRESSES_MAX: usize = 1024;

/// Opens this gateway's witness for the peers of the configuration, before anything is served.
pub(super) fn open(configuration: &Configuration) -> Result<Option<Arc<Witness>>, Failure> {
    if configuration.peers.is_empty() {
        return Ok(None);
    }
    let file = configuration.state.join(WITNESS);
    let failed = |error: WitnessError| witness::failure(&error);
    if let Some(problem) = problems(configuration).into_iter().next() {
        return Err(problem);
    }
    let witness = Witness::open(&file).map_err(failed)?;
    let known = witness.logs();
    for peer in &configuration.peers {
        if !known.iter().any(|one| one.log.key == *peer) {
            witness.add(peer.clone()).map_err(failed)?;
        }
    }
    witness.only(configuration.peers.iter().map(|peer| peer.name().to_owned()));
    Ok(Some(Arc::new(witness)))
}

/// Why this gateway cannot witness the peers of the configuration. Reads only.
pub(crate) fn problems(configuration: &Configuration) -> Vec<Failure> {
    if configuration.peers.is_empty() {
        return Vec::new();
    }
    let (state, mut problems) = (&configuration.state, Vec::new());
    match own_roots(state).and_then(|text| Roots::parse(&text).ok()) {
        None => problems.push(Failure::no("the key of this gateway's own log is not known")),
        Some(own) => problems.extend(configuration.peers.iter().filter_map(|peer| itself(own.log(), peer))),
    }
    match WitnessState::read(&state.join(WITNESS)) {
        Ok(known) => {
            let logs: Vec<&Cosigned> = known.logs().collect();
            problems.extend(configuration.peers.iter().filter_map(|peer| another(&logs, peer)));
        }
        Err(error) => problems.push(unusable(state, &error)),
    }
    problems
}

/// A log that vouches for itself vouches for nothing.
fn itself(own: &LogVerifier, peer: &LogVerifier) -> Option<Failure> {
    (own.name() == peer.name() || own.is_same_key(peer)).then(|| {
        Failure::no(format!("`witness_for` names this gateway's own log, {}", own.name()))
            .hint("a gateway does not witness itself: remove its key from the peers")
    })
}

/// A second key for an origin would be a second history.
fn another(known: &[&Cosigned], peer: &LogVerifier) -> Option<Failure> {
    let other = known.iter().any(|one| one.log.key.name() == peer.name() && one.log.key != *peer);
    other.then(|| {
        Failure::no(format!("this witness knows {} by another key", peer.name()))
            .hint("a log that has a new key is another log, with another name")
    })
}

fn unusable(state: &Path, error: &WitnessError) -> Failure {
    let file = state.join(WITNESS);
    if file.exists() {
        return witness::failure(error);
    }
    Failure::no(format!("{} is not there: this gateway has no witness's key", file.display())).hint(format!(
        "chancery witness init {} --name ORIGIN/witness, with the origin of this gateway's log",
        file.display()
    ))
}

/// The routes of the witness, for the listener of the API.
pub(super) fn router(witness: Arc<Witness>, gateway: Gateway) -> Router {
    let may_witness = Box::new(move || gateway.may_witness());
    Router::new().nest("/witness", guarded(witness::router(witness), may_witness))
}

fn guarded(router: Router, may_witness: Box<dyn Fn() -> bool + Send + Sync>) -> Router {
    let door = Arc::new(Door { may_witness, room: Semaphore::new(AT_ONCE), addresses: Mutex::default() });
    router.layer(from_fn_with_state(door, pass))
}

/// What a request passes before it is read.
struct Door {
    may_witness: Box<dyn Fn() -> bool + Send + Sync>,
    room: Semaphore,
    addresses: Mutex<HashMap<IpAddr, Bucket>>,
}

/// What an address may still ask.
#[derive(Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn take(self, now: Instant) -> (Self, bool) {
        let refilled = self.left + now.saturating_duration_since(self.at).as_secs_f64() * REFILL_A_SECOND;
        let left = refilled.min(BURST);
        let taken = left >= 1.0;
        (Self { left: if taken { left - 1.0 } else { left }, at: now }, taken)
    }
    fn is_full(self, now: Instant) -> bool {
        self.left + now.saturating_duration_since(self.at).as_secs_f64() * REFILL_A_SECOND >= BURST
    }
}

impl Door {
    fn takes(&self, address: IpAddr, now: Instant) -> bool {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if !addresses.contains_key(&address) && addresses.len() >= ADDRESSES_MAX {
            addresses.retain(|_, bucket| !bucket.is_full(now));
        }
        let address = match addresses.contains_key(&address) || addresses.len() < ADDRESSES_MAX {
            true => address,
            false => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        };
        let (after, taken) = addresses.get(&address).copied().unwrap_or(Bucket { left: BURST, at: now }).take(now);
        addresses.insert(address, after);
        taken
    }
}

async fn pass(
    State(door): State<Arc<Door>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    if !door.takes(peer.ip().to_canonical(), Instant::now()) {
        return StatusCode::TOO_MANY_REQUESTS.into_response();
    }
    if !(door.may_witness)() {
        return (StatusCode::SERVICE_UNAVAILABLE, "this gateway's own ledger is not in order\n").into_response();
    }
    match door.room.try_acquire() {
        Ok(_permit) => next.run(request).await,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn door() -> Door {
        Door { may_witness: Box::new(|| true), room: Semaphore::new(AT_ONCE), addresses: Mutex::default() }
    }

    #[test]
    fn an_address_that_asks_too_often_waits_and_others_do_not() {
        let (door, start) = (door(), Instant::now());
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let taken = (0..200).filter(|_| door.takes(one, start)).count();
        assert_eq!(taken, BURST as usize);
        assert!(door.takes(other, start));
        let later = start + Duration::from_secs(1);
        assert_eq!((0..200).filter(|_| door.takes(one, later)).count(), REFILL_A_SECOND as usize);
    }

    #[test]
    fn as_many_addresses_as_there_are_take_no_more_room_than_that() {
        let (door, start) = (door(), Instant::now());
        let far = |n: u32| IpAddr::from(Ipv4Addr::from(0x0a00_0000 + n));
        for n in 0..3 * ADDRESSES_MAX as u32 {
            door.takes(far(n), start);
        }
        let count = || door.addresses.lock().expect("whole").len();
        assert!(count() <= ADDRESSES_MAX + 1);
        // Past it they share what one may ask.
        assert!(!door.takes(far(9_999_999), start));
        assert!(door.takes(far(9_999_999), start + Duration::from_secs(60)));
        assert_eq!(count(), 1, "who did not ask for a while is forgotten");
    }

    #[test]
    fn a_log_does_not_vouch_for_itself_under_any_name() {
        use chancery_ledger::LogSigner;
        let key = |name: &str, seed: u8| {
            let signer = LogSigner::from_seed(name, &[seed; 32]).expect("a seed");
            LogVerifier::parse(&signer.verifier_key()).expect("own key")
        };
        let own = key("gw.test/a", 1);
        for (name, seed, found) in
            [("gw.test/a", 1, true), ("gw.test/a", 2, true), ("gw.test/b", 1, true), ("gw.test/b", 2, false)]
        {
            assert_eq!(itself(&own, &key(name, seed)).is_some(), found, "{name} {seed}");
        }
    }
}
