//! The thread of a model: it owns the session, and steps it while there are requests.

use std::collections::HashMap;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use pollster::block_on;
use siskin_engine::{EmbedOptions, Embeddings, Error, RequestEvent, RequestId, Session, Update};
use siskin_openai::Prompt;
use tokio::sync::{mpsc, oneshot};

use crate::memory;
use crate::metrics::Metrics;

/// The most events that wait for a client to read them. Its connection holds some thousands more.
const MAX_UNREAD: usize = 4096;

/// An event of one of a client's answers, with the answer's index.
pub type Answered = (usize, Event);

#[derive(Debug)]
pub enum Event {
    Request(RequestEvent),
    /// The device failed, or the client has left too much unread.
    Failed(String),
}

enum Command {
    Answer {
        prompts: Vec<Prompt>,
        events: mpsc::Sender<Answered>,
        /// Whether all were accepted.
        accepted: oneshot::Sender<Result<(), Error>>,
    },
    Embed {
        texts: Vec<String>,
        options: EmbedOptions,
        reply: oneshot::Sender<Result<Embeddings, Error>>,
    },
}

/// Sends work to the thread, which ends when this is dropped and what runs has been answered.
#[derive(Debug)]
pub struct Worker {
    commands: Sender<Command>,
    thread: JoinHandle<()>,
}

/// The thread has ended: it panicked.
#[derive(Debug)]
pub struct Gone;

impl Worker {
    pub fn start(name: &str, session: Session, metrics: Arc<Mutex<Metrics>>) -> io::Result<Self> {
        let (sender, commands) = channel();
        let thread = thread::Builder::new().name(name.into()).spawn(move || {
            let clients = HashMap::new();
            Running {
                session,
                metrics,
                clients,
            }
            .run(&commands);
            memory::give_back();
        })?;
        Ok(Self {
            commands: sender,
            thread,
        })
    }

    /// Whether the thread has panicked.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Accepts nothing more.
    pub fn end(self) -> JoinHandle<()> {
        self.thread
    }

    /// Answers the prompts; what happens to them comes from the receiver. Dropping it cancels them.
    pub async fn answer(
        &self,
        prompts: Vec<Prompt>,
    ) -> Result<Result<mpsc::Receiver<Answered>, Error>, Gone> {
        let (events, receiver) = mpsc::channel(MAX_UNREAD);
        let (accepted, is_accepted) = oneshot::channel();
        let command = Command::Answer {
            prompts,
            events,
            accepted,
        };
        self.commands.send(command).map_err(|_| Gone)?;
        let is_accepted = is_accepted.await.map_err(|_| Gone)?;
        Ok(is_accepted.map(|()| receiver))
    }

    pub async fn embed(
        &self,
        texts: Vec<String>,
        options: EmbedOptions,
    ) -> Result<Result<Embeddings, Error>, Gone> {
        let (reply, result) = oneshot::channel();
        let command = Command::Embed {
            texts,
            options,
            reply,
        };
        self.commands.send(command).map_err(|_| Gone)?;
        result.await.map_err(|_| Gone)
    }
}

struct Client {
    index: usize,
    events: mpsc::Sender<Answered>,
}

struct Running {
    session: Session,
    metrics: Arc<Mutex<Metrics>>,
    clients: HashMap<RequestId, Client>,
}

impl Running {
    fn run(mut self, commands: &Receiver<Command>) {
        loop {
            if self.session.is_idle() {
                // What was cancelled after the last step has left.
                self.report();
                match commands.recv() {
                    Ok(command) => self.take(command),
                    Err(_) => return,
                }
            }
            while let Ok(command) = commands.try_recv() {
                self.take(command);
            }
            self.drop_those_who_left();
            let updates = block_on(self.session.step());
            // Before clients know that their requests have ended.
            self.report();
            match updates {
                Ok(updates) => updates.into_iter().for_each(|u| self.tell(u)),
                Err(e) => {
                    for (_, client) in self.clients.drain() {
                        let event = Event::Failed(e.to_string());
                        let _ = client.events.try_send((client.index, event));
                    }
                }
            }
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Answer {
                prompts,
                events,
                accepted,
            } => {
                let result = self.submit(prompts, &events);
                let _ = accepted.send(result);
            }
            Command::Embed {
                texts,
                options,
                reply,
            } => {
                let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                let _ = reply.send(block_on(self.session.embed(&texts, &options)));
            }
        }
    }

    /// All of the prompts or none.
    fn submit(
        &mut self,
        prompts: Vec<Prompt>,
        events: &mpsc::Sender<Answered>,
    ) -> Result<(), Error> {
        let mut submitted = vec![];
        for prompt in prompts {
            match self.session.submit(&prompt.tokens, prompt.options) {
                Ok(id) => submitted.push(id),
                Err(e) => {
                    submitted
                        .into_iter()
                        .for_each(|id| drop(self.session.cancel(id)));
                    return Err(e);
                }
            }
        }
        let clients = submitted.into_iter().enumerate().map(|(index, id)| {
            let events = events.clone();
            (id, Client { index, events })
        });
        self.clients.extend(clients);
        Ok(())
    }

    fn drop_those_who_left(&mut self) {
        let left = self.clients.iter().filter(|(_, c)| c.events.is_closed());
        let left: Vec<RequestId> = left.map(|(id, _)| *id).collect();
        for id in left {
            self.clients.remove(&id);
            let updates = self.session.cancel(id);
            updates.into_iter().for_each(|u| self.tell(u));
        }
    }

    fn tell(&mut self, update: Update) {
        let is_last = matches!(
            update.event,
            RequestEvent::Done(_) | RequestEvent::Failed(_)
        );
        if let RequestEvent::Done(answer) = &update.event
            && let Ok(mut metrics) = self.metrics.lock()
        {
            metrics.answered(answer);
        }
        let Some(client) = self.clients.get(&update.request) else {
            return;
        };
        // The last place is for saying why.
        let is_full = client.events.capacity() <= 1;
        let event = match is_full {
            true => Event::Failed("the client reads too slowly".into()),
            false => Event::Request(update.event),
        };
        let _ = client.events.try_send((client.index, event));
        if is_full || is_last {
            self.clients.remove(&update.request);
        }
        if is_full {
            let updates = self.session.cancel(update.request);
            updates.into_iter().for_each(|u| self.tell(u));
        }
    }

    fn report(&self) {
        if let Ok(mut metrics) = self.metrics.lock() {
            metrics.running = self.session.n_running();
            metrics.waiting = self.session.n_waiting();
            metrics.cache_used = 1.0 - self.session.cache_free();
        }
    }
}
