/** What changes, as it changes: one stream of server-sent events for the whole page. */

import { EVENTS_PATH } from './api';

export type Change = 'incident' | 'step' | 'alert' | 'device' | 'entry' | 'pending' | 'overview' | 'reset';
const CHANGES: Change[] = ['incident', 'step', 'alert', 'device', 'entry', 'pending', 'overview', 'reset'];

/** A page reads again at most this often, however much happens. */
const SETTLE_MILLIS = 250;
const RETRY_MILLIS = [1000, 2000, 5000, 10_000];

type Listener = { of: ReadonlySet<Change>; tell: () => void; waiting: boolean };

class Live {
  /** Whether what is shown keeps itself up to date. */
  state = $state<'connecting' | 'live' | 'reconnecting'>('connecting');
  private stream: EventSource | undefined;
  private readonly listeners = new Set<Listener>();
  private failures = 0;
  private retry: ReturnType<typeof setTimeout> | undefined;

  start(): void {
    this.stop();
    const stream = new EventSource(EVENTS_PATH);
    this.stream = stream;
    stream.onopen = () => {
      // What happened while we were away is not replayed for certain: read all again.
      if (this.state === 'reconnecting') this.tell('reset');
      this.state = 'live';
      this.failures = 0;
    };
    stream.onerror = () => {
      this.state = 'reconnecting';
      // The browser tries again by itself unless it was refused outright.
      if (stream.readyState !== EventSource.CLOSED) return;
      const wait = RETRY_MILLIS[Math.min(this.failures, RETRY_MILLIS.length - 1)];
      this.failures += 1;
      this.retry = setTimeout(() => this.start(), wait);
      this.tell('reset');
    };
    for (const change of CHANGES) stream.addEventListener(change, () => this.tell(change));
  }

  stop(): void {
    clearTimeout(this.retry);
    this.stream?.close();
    this.stream = undefined;
  }

  /** Calls `tell` after changes of these kinds, many of them at once only once. */
  on(of: Change[], tell: () => void): () => void {
    const listener: Listener = { of: new Set([...of, 'reset']), tell, waiting: false };
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  private tell(change: Change): void {
    for (const listener of this.listeners) {
      if (!listener.of.has(change) || listener.waiting) continue;
      listener.waiting = true;
      setTimeout(() => {
        listener.waiting = false;
        if (this.listeners.has(listener)) listener.tell();
      }, SETTLE_MILLIS);
    }
  }
}

export const live = new Live();
