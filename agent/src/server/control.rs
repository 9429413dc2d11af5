//! The control API, path by path. Types and paths are those of [`weft_api::control`].

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use tokio::time::Instant;
use weft_api::control::{self, Ipam, PeerCounts, PodMtu, Problem, SessionState, Status};

use super::answer::{Answer, Failure};
use super::{bfd, bgp, policies};
use crate::agent::Agent;
use crate::readiness;

/// All of it, for who may open the socket.
pub(super) fn router(agent: Arc<Agent>) -> Router {
    reading(Arc::clone(&agent)).merge(Router::new().route("/v1/stop", post(stop)).with_state(agent))
}

/// What changes nothing.
pub(super) fn reading(agent: Arc<Agent>) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/bgp/peers", get(peers))
        .route("/v1/bgp/routes", get(routes))
        .route("/v1/bgp/advertised", get(advertised))
        .route("/v1/ipam", get(ipam))
        .route("/v1/policies", get(list_policies))
        .route("/v1/policies/explain", get(explain))
        .with_state(agent)
}

type Shared = State<Arc<Agent>>;

async fn status(State(agent): Shared) -> Json<Status> {
    Json(collect_status(&agent).await)
}

pub(super) async fn collect_status(agent: &Agent) -> Status {
    let desired = agent.desired.borrow().clone();
    let peers = bgp::peers(agent).await.unwrap_or_default();
    let established = peers.iter().filter(|peer| peer.state == SessionState::Established).count();
    let waiting_for = readiness::waiting(agent);
    let routes = agent.routes.status().borrow().clone();
    let policy = agent.policy.state().borrow().status();
    let mut of_peers = bgp::leaks(&peers);
    of_peers.extend(bfd::problems(&bfd::report(agent).await, &peers));
    let problems = problems(agent, of_peers);
    Status {
        node: agent.config.node.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ready: waiting_for.is_empty(),
        waiting_for,
        uptime_seconds: agent.started.elapsed().as_secs(),
        datastore: agent.datastore.clone(),
        asn: desired.as_ref().map(|desired| desired.speaker.asn.0),
        router_id: desired.as_ref().map(|desired| desired.speaker.router_id.to_string()),
        pod_cidrs: desired.iter().flat_map(|desired| &desired.pod_cidrs).map(ToString::to_string).collect(),
        peers: PeerCounts {
            established: u32::try_from(established).unwrap_or(u32::MAX),
            total: u32::try_from(peers.len()).unwrap_or(u32::MAX),
        },
        kernel_routes: BTreeMap::from([("ipv4".to_owned(), routes.ipv4), ("ipv6".to_owned(), routes.ipv6)]),
        pods: u32::try_from(agent.policy.local().len()).unwrap_or(u32::MAX),
        policy,
        pod_mtu: agent.mtu.borrow().clone().map(|mtu| PodMtu { bytes: mtu.bytes, link: mtu.link }),
        problems,
    }
}

/// Of all parts, each once, in order.
fn problems(agent: &Agent, of_peers: Vec<Problem>) -> Vec<Problem> {
    let mut all = agent.routes.status().borrow().problems.clone();
    all.extend(of_peers);
    all.extend(agent.policy.state().borrow().problems().cloned());
    all.extend(agent.speaker_problem.borrow().clone());
    all.extend(agent.sysctl_problems.borrow().iter().cloned());
    all.extend(agent.heard.problems(Instant::now()));
    all.extend(agent.runs_on().map(|source| Problem {
        object: format!("datastore {}", agent.datastore),
        reason: format!("does not answer since the start; bgp runs on {source}, policy as it was"),
    }));
    all.extend(agent.mtu.borrow().iter().filter_map(|mtu| mtu.problem.clone()));
    if let Some(snapshot) = agent.snapshots.borrow().as_ref() {
        all.extend(snapshot.problems.iter().map(Problem::from));
    }
    if let Some(desired) = agent.desired.borrow().as_ref() {
        all.extend(desired.problems.iter().map(Problem::from));
    }
    all.into_iter().collect()
}

async fn peers(State(agent): Shared) -> Answer<Vec<control::Peer>> {
    Ok(Json(bgp::peers(&agent).await?))
}

#[derive(Deserialize)]
struct RoutesQuery {
    prefix: Option<String>,
}

async fn routes(State(agent): Shared, Query(query): Query<RoutesQuery>) -> Answer<Vec<control::Route>> {
    Ok(Json(bgp::routes(&agent, query.prefix.as_deref()).await?))
}

#[derive(Deserialize)]
struct AdvertisedQuery {
    peer: String,
}

async fn advertised(
    State(agent): Shared,
    Query(query): Query<AdvertisedQuery>,
) -> Answer<Vec<control::Route>> {
    Ok(Json(bgp::advertised(&agent, &query.peer).await?))
}

async fn ipam(State(agent): Shared) -> Answer<Ipam> {
    let cni = agent.cni.borrow().clone();
    let cni = cni.ok_or_else(|| Failure::not_yet("the CNI server is not running yet"))?;
    Ok(Json(cni.ipam()))
}

async fn list_policies(State(agent): Shared) -> Answer<Vec<control::Policy>> {
    Ok(Json(policies::list(&agent)?))
}

async fn explain(
    State(agent): Shared,
    Query(query): Query<policies::ExplainQuery>,
) -> Answer<control::Explanation> {
    Ok(Json(policies::explain(&agent, &query)?))
}

async fn stop(State(agent): Shared, Json(request): Json<control::Stop>) -> Result<StatusCode, Failure> {
    agent.stop.try_send(request.text).map_err(|_| Failure::not_yet("already stopping"))?;
    Ok(StatusCode::ACCEPTED)
}
