//! The thread that the editor talks to.

use std::io::BufRead;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use lsp_types::{
    CompletionOptions, DidChangeTextDocumentParams, DidCloseTextDocumentParams, DidOpenTextDocumentParams,
    HoverProviderCapability, InitializeParams, InitializeResult, OneOf, ServerCapabilities, ServerInfo,
    TextDocumentPositionParams, TextDocumentSyncCapability, TextDocumentSyncKind, TextDocumentSyncOptions,
    TextDocumentSyncSaveOptions,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::board::{Board, Open};
use super::wire::{Client, Incoming, Refusal, read};
use super::{answers, files};

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As the protocol has it, or because the editor is gone.
    Good,
    /// By `exit` without `shutdown`.
    Abrupt,
}

pub struct Server {
    client: Arc<Client>,
    given: Vec<PathBuf>,
    /// Once the editor has said hello.
    board: Option<Arc<Board>>,
    worker: Option<std::thread::JoinHandle<()>>,
    watches_files: bool,
    is_shut_down: bool,
}

impl Server {
    pub fn new(client: Arc<Client>, given: Vec<PathBuf>) -> Self {
        Self { client, given, board: None, worker: None, watches_files: false, is_shut_down: false }
    }

    /// Answers until `exit` or the end of the input.
    pub fn run(mut self, mut input: impl BufRead) -> End {
        let mut end = End::Good;
        while let Ok(Some(message)) = read(&mut input) {
            match message {
                Ok(Incoming { method: Some(method), .. }) if method == "exit" => {
                    end = if self.is_shut_down { End::Good } else { End::Abrupt };
                    break;
                }
                Ok(Incoming { id: Some(id), method: Some(method), params }) => {
                    // A fault in one answer must not end those to come.
                    let answer = catch_unwind(AssertUnwindSafe(|| self.request(&method, params)));
                    let fault = |_| Err(Refusal::new(Refusal::INTERNAL_ERROR, "the answer ended by a fault"));
                    self.client.answer(&id, answer.unwrap_or_else(fault));
                }
                Ok(Incoming { id: None, method: Some(method), params }) => {
                    // To what is no question there is no answer, also where it makes no sense.
                    let _ = catch_unwind(AssertUnwindSafe(|| self.notification(&method, params)));
                }
                // The answer to a request of ours.
                Ok(Incoming { id: Some(_), .. }) => {}
                Ok(Incoming { id: None, .. }) => {
                    let refusal = Refusal::new(Refusal::INVALID_REQUEST, "the message has no method");
                    self.client.answer(&Value::Null, Err(refusal));
                }
                Err(refusal) => self.client.answer(&Value::Null, Err(refusal)),
            }
        }
        if let Some(board) = &self.board {
            board.end();
        }
        // A check that is under way is seconds at most; DuckDB must not be torn down below it.
        self.worker.map(std::thread::JoinHandle::join);
        end
    }

    fn request(&mut self, method: &str, parameters: Value) -> Result<Value, Refusal> {
        if self.is_shut_down {
            return Err(Refusal::new(Refusal::INVALID_REQUEST, "the server is shut down"));
        }
        match (method, &self.board) {
            ("initialize", None) => self.initialize(&from(parameters)?),
            ("initialize", Some(_)) => Err(Refusal::new(Refusal::INVALID_REQUEST, "the server is initialized already")),
            (_, None) => Err(Refusal::new(Refusal::NOT_INITIALIZED, "the first request is `initialize`")),
            ("shutdown", _) => {
                self.is_shut_down = true;
                Ok(Value::Null)
            }
            ("textDocument/hover" | "textDocument/completion" | "textDocument/definition", Some(board)) => {
                let at: TextDocumentPositionParams = from(parameters)?;
                let Some(file) = files::path_of(&at.text_document.uri) else { return Ok(Value::Null) };
                let Some((text, known)) = board.document(&file) else { return Ok(Value::Null) };
                let Some(known) = known else { return Ok(Value::Null) };
                Ok(answers::answer(method, &known, &file, &text, at.position).unwrap_or_default())
            }
            _ => Err(Refusal::new(Refusal::METHOD_NOT_FOUND, format!("there is no method `{method}`"))),
        }
    }

    #[allow(deprecated, reason = "`rootUri` is what older editors send instead of `workspaceFolders`")]
    fn initialize(&mut self, parameters: &InitializeParams) -> Result<Value, Refusal> {
        let folders = parameters.workspace_folders.iter().flatten().map(|folder| &folder.uri);
        let mut roots: Vec<PathBuf> = folders.filter_map(files::path_of).collect();
        if roots.is_empty() {
            roots.extend(parameters.root_uri.as_ref().and_then(files::path_of));
        }
        let watched = parameters.capabilities.workspace.as_ref().and_then(|it| it.did_change_watched_files.as_ref());
        self.watches_files = watched.and_then(|it| it.dynamic_registration).unwrap_or_default();
        // Where editors start us is their own matter.
        let start = roots.first().cloned().or_else(|| std::env::current_dir().ok()).unwrap_or_default();
        let given = self.given.iter().map(|file| start.join(file)).collect();
        let board = Arc::new(Board::new(Arc::clone(&self.client), given, roots));
        self.board = Some(Arc::clone(&board));
        let worker = std::thread::Builder::new().name("check".to_owned()).spawn(move || board.work());
        self.worker = Some(worker.map_err(|error| Refusal::new(Refusal::INTERNAL_ERROR, error))?);
        let result = InitializeResult {
            capabilities: capabilities(),
            server_info: Some(ServerInfo {
                name: "pintail".to_owned(),
                version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            }),
        };
        serde_json::to_value(result).map_err(|error| Refusal::new(Refusal::INTERNAL_ERROR, error))
    }

    fn notification(&self, method: &str, parameters: Value) -> Option<()> {
        let board = self.board.as_ref()?;
        match method {
            "initialized" if self.watches_files => {
                let watchers = json!([{ "globPattern": "**/*.{yaml,yml,sql}" }]);
                let registration = json!({
                    "id": "files",
                    "method": "workspace/didChangeWatchedFiles",
                    "registerOptions": { "watchers": watchers },
                });
                self.client.request("files", "client/registerCapability", &json!({ "registrations": [registration] }));
            }
            "textDocument/didOpen" => {
                let document = from::<DidOpenTextDocumentParams>(parameters).ok()?.text_document;
                let file = files::path_of(&document.uri)?;
                let version = Some(document.version);
                board.open(file, Open { uri: document.uri, version, text: document.text.into() });
            }
            "textDocument/didChange" => {
                let mut change: DidChangeTextDocumentParams = from(parameters).ok()?;
                let file = files::path_of(&change.text_document.uri)?;
                // Each is the whole text.
                board.edit(&file, Some(change.text_document.version), change.content_changes.pop()?.text);
            }
            "textDocument/didClose" => {
                let closed: DidCloseTextDocumentParams = from(parameters).ok()?;
                board.close(&files::path_of(&closed.text_document.uri)?);
            }
            "textDocument/didSave" | "workspace/didChangeWatchedFiles" => board.touch(),
            _ => {}
        }
        Some(())
    }
}

fn from<T: DeserializeOwned>(parameters: Value) -> Result<T, Refusal> {
    serde_json::from_value(parameters).map_err(|error| Refusal::new(Refusal::INVALID_PARAMETERS, error))
}

fn capabilities() -> ServerCapabilities {
    ServerCapabilities {
        text_document_sync: Some(TextDocumentSyncCapability::Options(TextDocumentSyncOptions {
            open_close: Some(true),
            change: Some(TextDocumentSyncKind::FULL),
            save: Some(TextDocumentSyncSaveOptions::Supported(true)),
            ..TextDocumentSyncOptions::default()
        })),
        hover_provider: Some(HoverProviderCapability::Simple(true)),
        definition_provider: Some(OneOf::Left(true)),
        completion_provider: Some(CompletionOptions {
            trigger_characters: Some(vec![".".to_owned(), "$".to_owned()]),
            ..CompletionOptions::default()
        }),
        ..ServerCapabilities::default()
    }
}
