//! Routes, each with what it needs and what it takes and answers: read from its handler's own types, so that the description cannot say
//! anything else than the program does.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::handler::Handler;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use axum::{Extension, Json, Router};
use http::{HeaderMap, Method};
use schemars::generate::{Contract, SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};

use crate::admin::Admin;
use crate::admin::door::Rights;
use crate::admin::error::AdminError;
use crate::admin::extract::{Asked, Given, Named};
use crate::keys::admin::AdminScope;

/// Whom a route is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    /// Everybody who reaches the listener.
    Anyone,
    /// Who holds this scope; people at the page and processes at the socket hold all.
    Holders(AdminScope),
    /// Processes at the socket: it is not there at the listener.
    Socket,
}

/// What a route is.
pub(super) struct Operation {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) access: For,
    pub(super) summary: &'static str,
    pub(super) query: Option<Schema>,
    pub(super) body: Option<Schema>,
    /// Media type and schema of the good answer; `None`: it has no body.
    pub(super) answer: Option<(&'static str, Schema)>,
    pub(super) status: u16,
    /// Whether the same form comes with 503 too.
    pub(super) may_be_unwell: bool,
}

/// All routes as they are put together.
pub(super) struct Table {
    router: Router<Arc<Admin>>,
    pub(super) operations: Vec<Operation>,
    pub(super) asked: SchemaGenerator,
    pub(super) answered: SchemaGenerator,
    is_listener: bool,
}

/// What each route needs, by its method and its path as it is written here.
type Needs = HashMap<(Method, &'static str), For>;

impl Table {
    /// For the listener, or for the socket.
    pub(super) fn new(is_listener: bool) -> Self {
        let generator = |contract: Contract| {
            let settings = SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = "/components/schemas".into();
                settings.meta_schema = None;
                settings.contract = contract;
            });
            settings.into_generator()
        };
        let (asked, answered) = (generator(Contract::Deserialize), generator(Contract::Serialize));
        Self { router: Router::new(), operations: Vec::new(), asked, answered, is_listener }
    }

    /// One more route.
    pub(super) fn at<H, T, P>(mut self, method: &Method, path: &'static str, access: For, summary: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<Admin>> + Described<P>,
        T: 'static,
    {
        if self.is_listener && access == For::Socket {
            return self;
        }
        let mut operation = Operation {
            method: method.clone(),
            path,
            access,
            summary,
            query: None,
            body: None,
            answer: None,
            status: 200,
            may_be_unwell: false,
        };
        H::describe(&mut operation, &mut self.asked, &mut self.answered);
        // Every method that a route here has is one of these.
        let filter = MethodFilter::try_from(operation.method.clone()).unwrap_or(MethodFilter::GET);
        self.router = self.router.route(path, on(filter, handler));
        self.operations.push(operation);
        self
    }

    /// The router, in which each route is closed to who may not.
    pub(super) fn into_router(self) -> Router<Arc<Admin>> {
        let needs: Needs = self.operations.iter().map(|one| ((one.method.clone(), one.path), one.access)).collect();
        self.router.route_layer(middleware::from_fn_with_state(Arc::new(needs), authorise))
    }
}

/// Lets through who may. What has no entry is for nobody.
async fn authorise(State(needs): State<Arc<Needs>>, request: Request, next: Next) -> Response {
    match may(&needs, &request) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

fn may(needs: &Needs, request: &Request) -> Result<(), AdminError> {
    // axum answers HEAD with the handler of GET.
    let method = if request.method() == Method::HEAD { Method::GET } else { request.method().clone() };
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str).unwrap_or_default();
    let Some((_, access)) = needs.iter().find(|((of, at), _)| *of == method && *at == path) else {
        // A method that the route does not have: the router says so.
        return if needs.keys().any(|(_, at)| *at == path) {
            Ok(())
        } else {
            Err(AdminError::Forbidden("this route is for nobody".into()))
        };
    };
    let rights = request.extensions().get::<Rights>();
    match (access, rights) {
        (For::Anyone, _) => Ok(()),
        (For::Holders(_) | For::Socket, None) => {
            Err(AdminError::Unauthorised("an admin token is needed, as Authorization: Bearer kga_…, or a login to the page".into()))
        }
        (For::Holders(scope), Some(rights)) if !rights.may(*scope) => {
            Err(AdminError::Forbidden(format!("this needs an admin token with the scope \"{}\"", scope.as_str())))
        }
        (For::Holders(_) | For::Socket, Some(_)) => Ok(()),
    }
}

/// A handler whose types tell what it takes and answers. `P` is only there to tell its forms apart.
pub(super) trait Described<P> {
    /// Writes that down.
    fn describe(operation: &mut Operation, asked: &mut SchemaGenerator, answered: &mut SchemaGenerator);
}

/// Something that a handler takes.
pub(super) trait Part {
    /// Writes down what it is of the request.
    fn describe(_: &mut Operation, _: &mut SchemaGenerator) {}
}

impl Part for State<Arc<Admin>> {}
impl<T> Part for Extension<T> {}
// Which form is wanted.
impl Part for HeaderMap {}
impl<T> Part for Option<Extension<T>> {}
// The path itself names them.
impl<T> Part for Named<T> {}

impl<T: JsonSchema> Part for Given<T> {
    fn describe(operation: &mut Operation, asked: &mut SchemaGenerator) {
        operation.body = Some(asked.subschema_for::<T>());
    }
}

impl<T: JsonSchema> Part for Asked<T> {
    fn describe(operation: &mut Operation, asked: &mut SchemaGenerator) {
        operation.query = Some(T::json_schema(asked));
    }
}

/// What a handler answers.
pub(super) trait Answers {
    /// Writes it down.
    fn describe(operation: &mut Operation, answered: &mut SchemaGenerator);
}

impl<T: JsonSchema> Answers for Result<Json<T>, AdminError> {
    fn describe(operation: &mut Operation, answered: &mut SchemaGenerator) {
        operation.answer = Some(("application/json", answered.subschema_for::<T>()));
    }
}

/// No body, status 204.
pub(super) struct Nothing;

impl IntoResponse for Nothing {
    fn into_response(self) -> Response {
        http::StatusCode::NO_CONTENT.into_response()
    }
}

impl Answers for Result<Nothing, AdminError> {
    fn describe(operation: &mut Operation, _: &mut SchemaGenerator) {
        operation.status = 204;
    }
}

/// A stream that is not described further: the socket's alone.
pub(super) struct Stream(pub(super) Response);

impl IntoResponse for Stream {
    fn into_response(self) -> Response {
        self.0
    }
}

impl Answers for Result<Stream, AdminError> {
    fn describe(operation: &mut Operation, _: &mut SchemaGenerator) {
        operation.answer = Some(("application/octet-stream", Schema::default()));
    }
}

/// JSON with headers of its own.
pub(super) struct WithHeaders<T>(pub(super) Vec<(http::HeaderName, http::HeaderValue)>, pub(super) Json<T>);

impl<T: serde::Serialize> IntoResponse for WithHeaders<T> {
    fn into_response(self) -> Response {
        let mut response = self.1.into_response();
        response.headers_mut().extend(self.0);
        response
    }
}

impl<T: JsonSchema> Answers for Result<WithHeaders<T>, AdminError> {
    fn describe(operation: &mut Operation, answered: &mut SchemaGenerator) {
        operation.answer = Some(("application/json", answered.subschema_for::<T>()));
    }
}

macro_rules! described {
    ($($part:ident),*) => {
        impl<F, Answer, Out, $($part,)*> Described<(Out, $($part,)*)> for F
        where
            F: Fn($($part),*) -> Answer,
            Answer: Future<Output = Out>,
            Out: Answers,
            $($part: Part,)*
        {
            fn describe(operation: &mut Operation, _asked: &mut SchemaGenerator, answered: &mut SchemaGenerator) {
                $(<$part as Part>::describe(operation, _asked);)*
                Out::describe(operation, answered);
            }
        }
    };
}

described!();
described!(A);
described!(A, B);
described!(A, B, C);
described!(A, B, C, D);
described!(A, B, C, D, E);
