/**
 * Tracer: a place where a layer says what it does, to whoever listens; nearly free while nobody
 * does.
 *
 *     if (trace.isOn) trace.emit({ name: "mm_filemap_add_to_page_cache", index, order });
 *
 * The test of `isOn` stands at the call, so that no event is made in vain. Events are for people,
 * tests and the simulator: nothing in quire decides anything by them.
 *
 * After the tracepoints of Linux (`Documentation/trace/tracepoints.rst`), whose names events carry
 * where there is one.
 */

/** Something that happened: its name, and what there is to say about it. */
export interface TraceEvent {
  readonly name: string;
  readonly [field: string]: string | number | boolean | undefined;
}

export type TraceListener = (event: TraceEvent) => void;

export class Tracer {
  /** True while there is a listener. */
  isOn = false;
  #listeners: readonly TraceListener[] = [];

  /** Calls `listener` for each event from now on, until the returned function is called. */
  on(listener: TraceListener): () => void {
    const own: TraceListener = (event) => listener(event); // So that one function may listen twice.
    this.#setListeners([...this.#listeners, own]);
    return () => this.#setListeners(this.#listeners.filter((other) => other !== own));
  }

  /** Hands `event` to all listeners, in the order they came. A listener must not throw. */
  emit(event: TraceEvent): void {
    for (const listener of this.#listeners) listener(event);
  }

  #setListeners(listeners: readonly TraceListener[]): void {
    this.#listeners = listeners;
    this.isOn = listeners.length > 0;
  }
}
