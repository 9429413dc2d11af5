//! The reading half of the control API for network operators, who need no right to enter the agent's pod: over TLS, to who
//! shows a token of their service account that was issued for this node.
//!
//! In: requests from anybody, since the port is the node's. Out: answers where a TokenReview says yes. Who may have such a
//! token is RBAC's to say. What is possible without one is bounded: see [`Budget`] and [`super::tls`].

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::timeout;
use weft_api::control::{TOKEN_HEADER, audience};

use super::answer::Failure;
use super::control::reading;
use crate::agent::Agent;
use crate::config::OperatorsConfig;

/// Anybody who reaches the node's port can make us ask the API server: so often, on average and at once. An operator
/// makes two requests for a command.
const REVIEW_EVERY: Duration = Duration::from_millis(200);
const REVIEWS_AT_ONCE: u32 = 20;
/// An API server that takes longer is as good as away.
const REVIEWED_WITHIN: Duration = Duration::from_secs(5);

pub(super) fn router(agent: Arc<Agent>, config: &OperatorsConfig, client: Client) -> Router {
    let gate = Gate::new(config, &agent.config.node, client);
    reading(agent).layer(from_fn_with_state(Arc::new(gate), admit))
}

struct Gate {
    reviews: Api<TokenReview>,
    account: String,
    audience: String,
    budget: Mutex<Budget>,
}

async fn admit(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Result<Response, Failure> {
    let token = request.headers().get(TOKEN_HEADER).and_then(|token| token.to_str().ok());
    let token = token.ok_or_else(|| Failure::unauthorized(format!("no {TOKEN_HEADER}")))?;
    if !gate.budget.lock().expect("nobody panics while holding it").take(Instant::now()) {
        return Err(Failure::not_yet("too many tokens to look at, try again"));
    }
    gate.review(token.to_owned()).await?;
    Ok(next.run(request).await)
}

impl Gate {
    fn new(config: &OperatorsConfig, node: &str, client: Client) -> Self {
        Self {
            reviews: Api::all(client),
            account: config.account.clone(),
            audience: audience(node),
            budget: Mutex::new(Budget::new(Instant::now())),
        }
    }

    async fn review(&self, token: String) -> Result<(), Failure> {
        let spec = TokenReviewSpec { token, audiences: Some(vec![self.audience.clone()]) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let params = PostParams::default();
        let review = match timeout(REVIEWED_WITHIN, self.reviews.create(&params, &review)).await {
            Ok(Ok(review)) => review,
            Ok(Err(error)) => return Err(Failure::not_yet(format!("the token cannot be reviewed: {error}"))),
            Err(_) => return Err(Failure::not_yet("the token cannot be reviewed: no answer")),
        };
        if review.status.is_some_and(|status| self.is_operators(&status)) {
            return Ok(());
        }
        Err(Failure::unauthorized(format!("not a token of {} for {}", self.account, self.audience)))
    }

    /// A reviewer that knows nothing of audiences leaves them out: then the token may be for anybody.
    fn is_operators(&self, status: &TokenReviewStatus) -> bool {
        let user = status.user.as_ref().and_then(|user| user.username.as_deref());
        status.authenticated == Some(true)
            && user == Some(&self.account)
            && status.audiences.iter().flatten().any(|audience| *audience == self.audience)
    }
}

/// Reviews that are left: [`REVIEWS_AT_ONCE`], and one more each [`REVIEW_EVERY`].
#[derive(Debug)]
struct Budget {
    /// When all of it is there again.
    full: Instant,
}

impl Budget {
    fn new(now: Instant) -> Self {
        Self { full: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        let full = self.full.max(now) + REVIEW_EVERY;
        let left = full <= now + REVIEW_EVERY * REVIEWS_AT_ONCE;
        if left {
            self.full = full;
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use axum::Json;
    use axum::routing::post;
    use serde_json::{Value, json};

    use super::*;

    /// An API server to which a token is what it says of it: `USER AUDIENCE`. It answers for the audiences that it was
    /// asked about, and `any` for one that knows nothing of audiences.
    async fn reviewed(Json(review): Json<Value>) -> Json<Value> {
        let (user, audience) = review["spec"]["token"].as_str().unwrap().split_once(' ').unwrap();
        let asked = review["spec"]["audiences"].as_array().unwrap();
        let status = match audience {
            "any" => json!({ "authenticated": true, "user": { "username": user } }),
            _ if !asked.contains(&audience.into()) => json!({ "error": "token audiences are invalid" }),
            _ => json!({ "authenticated": true, "user": { "username": user }, "audiences": [audience] }),
        };
        let mut answer = review;
        answer["status"] = status;
        Json(answer)
    }

    #[tokio::test]
    async fn only_a_token_of_the_operators_for_this_node_is_taken() {
        let api = Router::new().route("/apis/authentication.k8s.io/v1/tokenreviews", post(reviewed));
        let account = "system:serviceaccount:weft-system:weft-operator";
        let config = OperatorsConfig { address: "[::]:9180".parse().unwrap(), account: account.to_owned() };
        let gate = Gate::new(&config, "n1", Client::new(api, "default"));

        gate.review(format!("{account} weft.dev/nodes/n1")).await.unwrap();
        for wrong in [
            format!("{account} weft.dev/nodes/n2"),
            format!("{account} https://kubernetes.default.svc"),
            format!("{account} any"),
            "system:serviceaccount:weft-system:weft-agent weft.dev/nodes/n1".to_owned(),
            "system:serviceaccount:other:weft-operator weft.dev/nodes/n1".to_owned(),
        ] {
            assert!(gate.review(wrong.clone()).await.is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_flood_of_tokens_becomes_a_trickle_of_reviews() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        assert_eq!((0..1_000).filter(|_| budget.take(start)).count(), 20);
        let minute = (0..60_000).map(|ms| start + Duration::from_millis(ms));
        assert_eq!(minute.filter(|now| budget.take(*now)).count(), 299);
        assert_eq!((0..1_000).filter(|_| budget.take(start + Duration::from_secs(600))).count(), 20);
    }
}
