//! What the control API answers with.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use weft_api::control;
use weft_bgp::net::Ended;

/// An answer that is not 2xx.
#[derive(Debug)]
pub(super) struct Failure(StatusCode, String);

impl Failure {
    pub(super) fn bad_request(error: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, error.into())
    }

    pub(super) fn unauthorized(error: impl Into<String>) -> Self {
        Self(StatusCode::UNAUTHORIZED, error.into())
    }

    pub(super) fn not_found(error: impl Into<String>) -> Self {
        Self(StatusCode::NOT_FOUND, error.into())
    }

    pub(super) fn not_yet(error: impl Into<String>) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, error.into())
    }
}

impl From<Ended> for Failure {
    fn from(ended: Ended) -> Self {
        Self::not_yet(ended.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(control::Error { error: self.1 })).into_response()
    }
}

pub(super) type Answer<T> = Result<Json<T>, Failure>;
