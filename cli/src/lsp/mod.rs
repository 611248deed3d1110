//! `pintail lsp`: a language server, for any editor. What is wrong is what `pintail lint` says.

mod answers;
mod board;
mod diagnostics;
mod files;
mod knowledge;
mod server;
mod text;
mod wire;

use std::io::{stdin, stdout};
use std::sync::Arc;

use crate::arguments::Lsp;
use crate::failure::{Code, CommandFailure};
use server::{End, Server};
use wire::Client;

pub fn lsp(arguments: &Lsp) -> Result<(), CommandFailure> {
    match Server::new(Arc::new(Client::new(stdout())), arguments.files.clone()).run(stdin().lock()) {
        End::Good => Ok(()),
        End::Abrupt => Err(CommandFailure::shown(Code::Failed)),
    }
}
