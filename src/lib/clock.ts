/**
 * Time and turns of the event loop, injected so that tests and the simulator own them.
 *
 * Nothing else in quire calls `Date.now`, `setTimeout`, `setImmediate` or `queueMicrotask`.
 *
 * - `realClock`     the platform's, for production.
 * - `VirtualClock`  stands still until it is told to advance; timers fire in order of their time.
 */

/** What quire needs to know about time. */
export interface Clock {
  /** Milliseconds since some start, never going back; for intervals. */
  nowMs(): number;
  /** Milliseconds since 1970, for time stamps. */
  wallMs(): number;
  /**
   * Calls `fire` once after `delayMs`. The timer does not keep the process alive if `isBackground`.
   */
  setTimer(delayMs: number, fire: () => void, isBackground?: boolean): Timer;
  /** Runs `task` after the current stretch of code, before the loop takes I/O in. */
  microtask(task: () => void): void;
  /** Resolves in a later turn of the loop, after I/O had a chance (`cond_resched`). */
  turn(): Promise<void>;
}

/** A pending call of `Clock.setTimer`. */
export interface Timer {
  cancel(): void;
}

/** What a browser's message port has and Node's type of it does not declare. */
interface BrowserPort {
  onmessage: (() => void) | null;
}

/**
 * `setImmediate` where there is one; a message channel in browsers, which timers would slow down.
 */
function nextTurn(resume: () => void): void {
  if (typeof setImmediate === "function") {
    setImmediate(resume);
    return;
  }
  const channel = new MessageChannel();
  const port: unknown = channel.port1;
  (port as BrowserPort).onmessage = () => {
    channel.port1.close();
    resume();
  };
  channel.port2.postMessage(null);
}

/** The platform's time. */
export const realClock: Clock = {
  nowMs: () => performance.now(),
  wallMs: () => Date.now(),
  setTimer(delayMs, fire, isBackground = false) {
    const handle = setTimeout(fire, delayMs);
    if (isBackground && typeof handle === "object") handle.unref();
    return { cancel: () => clearTimeout(handle) };
  },
  microtask: (task) => queueMicrotask(task),
  turn: () => new Promise<void>(nextTurn),
};

interface VirtualTimer {
  readonly dueMs: number;
  readonly fire: () => void;
}

/** A clock that moves only when a test says so. Turns of the loop stay real, so promises settle. */
export class VirtualClock implements Clock {
  #nowMs = 0;
  #timers: VirtualTimer[] = [];
  /** Turns taken so far: tests count them instead of measuring time. */
  turnCount = 0;

  nowMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return this.#nowMs;
  }

  get pendingTimers(): number {
    return this.#timers.length;
  }

  setTimer(delayMs: number, fire: () => void): Timer {
    const timer = { dueMs: this.#nowMs + delayMs, fire };
    this.#timers.push(timer);
    this.#timers.sort((a, b) => a.dueMs - b.dueMs); // Stable: equal ones stay as set.
    return {
      cancel: () => {
        this.#timers = this.#timers.filter((other) => other !== timer);
      },
    };
  }

  microtask(task: () => void): void {
    queueMicrotask(task);
  }

  turn(): Promise<void> {
    this.turnCount++;
    return new Promise(nextTurn);
  }

  /** Moves time on without letting anything run: the cost of work that a test pretends to do. */
  spend(costMs: number): void {
    this.#nowMs += costMs;
  }

  /** Moves time on by `byMs`, firing each timer at its time and letting its promises settle. */
  async advance(byMs: number): Promise<void> {
    const untilMs = this.#nowMs + byMs;
    await new Promise<void>(nextTurn);
    for (;;) {
      const next = this.#timers[0];
      if (next === undefined || next.dueMs > untilMs) break;
      this.#timers.shift();
      this.#nowMs = Math.max(this.#nowMs, next.dueMs);
      next.fire();
      await new Promise<void>(nextTurn);
    }
    this.#nowMs = Math.max(this.#nowMs, untilMs);
  }
}
