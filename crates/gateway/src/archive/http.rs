//! HTTP for the object store, by this house's client: no redirects, no proxies, chosen certificates.

use std::pin::Pin;
use std::time::Duration;

use http_body_util::BodyExt;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
};
use reqwest::Client;

use super::{ArchiveFault, ArchivePlace};
use crate::outbound::{self, Trust};

/// A piece of a recording over a slow line takes its time; a store that stopped answering does not.
const TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Hands one client to whatever of the store's library speaks HTTP.
#[derive(Clone, Debug)]
pub(super) struct Http(Client);

impl Http {
    pub(super) fn new(place: &ArchivePlace) -> Result<Self, ArchiveFault> {
        let wrong = |error: reqwest::Error| ArchiveFault::Settings(error.to_string());
        let trust = Trust::of(place.endpoint.as_deref().unwrap_or_default(), place.ca_pem.as_deref());
        let client = outbound::client(TIMEOUT, trust).map_err(wrong)?.connect_timeout(CONNECT_TIMEOUT);
        Ok(Self(client.build().map_err(wrong)?))
    }
}

impl HttpConnector for Http {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

impl HttpService for Http {
    fn call<'s, 'f>(
        &'s self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'f>>
    where
        's: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let url = reqwest::Url::parse(&parts.uri.to_string());
            let url = url.map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
            let mut request = reqwest::Request::new(parts.method, url);
            *request.headers_mut() = parts.headers;
            *request.body_mut() = Some(body.collect().await?.to_bytes().into());
            let response: http::Response<reqwest::Body> = self.0.execute(request).await.map_err(failed)?.into();
            let (parts, body) = response.into_parts();
            Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body.map_err(failed))))
        })
    }
}

fn failed(error: reqwest::Error) -> HttpError {
    let kind = match () {
        () if error.is_timeout() => HttpErrorKind::Timeout,
        () if error.is_connect() => HttpErrorKind::Connect,
        () if error.is_decode() => HttpErrorKind::Decode,
        () => HttpErrorKind::Interrupted,
    };
    HttpError::new(kind, error.without_url())
}
