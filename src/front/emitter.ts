/**
 * Open files as Node's `EventEmitter`s, which tell "close", at no cost to those to whom nobody
 * listens: the prototype gets Node's methods, which make their own fields with the first listener.
 * Where there is no Node there are no events.
 */
import type * as EventsModule from "node:events";
import { platformModule } from "./arguments.ts";

type Listener = (...args: never[]) => void;

/** The methods of `EventEmitter` that an open file has on Node. */
export interface Emitter {
  on(event: "close", listener: () => void): this;
  on(event: string | symbol, listener: Listener): this;
  addListener(event: string | symbol, listener: Listener): this;
  prependListener(event: string | symbol, listener: Listener): this;
  once(event: "close", listener: () => void): this;
  once(event: string | symbol, listener: Listener): this;
  prependOnceListener(event: string | symbol, listener: Listener): this;
  off(event: string | symbol, listener: Listener): this;
  removeListener(event: string | symbol, listener: Listener): this;
  removeAllListeners(event?: string | symbol): this;
  emit(event: string | symbol, ...args: unknown[]): boolean;
  listenerCount(event: string | symbol): number;
  eventNames(): (string | symbol)[];
  setMaxListeners(count: number): this;
  getMaxListeners(): number;
}

/** Where nobody can listen. */
class Silent {
  emit(): boolean {
    return false;
  }
}

function emitterBase(): abstract new () => Emitter {
  const events = platformModule<typeof EventsModule>("node:events");
  if (events === undefined) return Silent as unknown as abstract new () => Emitter;
  abstract class Emitting {}
  Object.setPrototypeOf(Emitting.prototype, events.EventEmitter.prototype);
  return Emitting as abstract new () => Emitter;
}

/** What open files extend. */
export const EmitterBase: abstract new () => Emitter = emitterBase();
