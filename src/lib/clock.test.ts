import { describe, expect, test } from "vitest";
import { type Clock, realClock, VirtualClock } from "./clock.ts";

describe.each<[string, () => Clock]>([
  ["realClock", () => realClock],
  ["VirtualClock", () => new VirtualClock()],
])("%s", (_name, make) => {
  test("a microtask runs after the current code and before the next turn", async () => {
    const clock = make();
    const order: string[] = [];
    const turn = clock.turn().then(() => order.push("turn"));
    clock.microtask(() => order.push("microtask"));
    order.push("code");
    await turn;
    expect(order).toEqual(["code", "microtask", "turn"]);
  });

  test("a turn lets what is outstanding through", async () => {
    const clock = make();
    let hasRun = false;
    setImmediate(() => {
      hasRun = true;
    });
    await clock.turn();
    expect(hasRun).toBe(true);
  });
});

describe("realClock", () => {
  test("does not go back, and knows the date", () => {
    const first = realClock.nowMs();
    expect(realClock.nowMs()).toBeGreaterThanOrEqual(first);
    expect(Math.abs(realClock.wallMs() - Date.now())).toBeLessThan(10_000);
  });

  test("fires a timer, unless it was cancelled", async () => {
    let isCancelledFired = false;
    const cancelled = realClock.setTimer(0, () => {
      isCancelledFired = true;
    });
    cancelled.cancel();
    await new Promise<void>((fire) => realClock.setTimer(1, fire));
    expect(isCancelledFired).toBe(false);
  });

  test("takes turns where there is no setImmediate, as in browsers", async () => {
    const real = globalThis.setImmediate;
    Reflect.deleteProperty(globalThis, "setImmediate");
    try {
      await realClock.turn();
    } finally {
      globalThis.setImmediate = real;
    }
  });
});

describe("VirtualClock", () => {
  test("stands still until it is told to go on", async () => {
    const clock = new VirtualClock();
    await clock.turn();
    expect([clock.nowMs(), clock.wallMs(), clock.turnCount]).toEqual([0, 0, 1]);
    clock.spend(3);
    await clock.advance(4.5);
    expect(clock.nowMs()).toBe(7.5);
  });

  test("fires timers in the order of their time, equal ones as they were set", async () => {
    const clock = new VirtualClock();
    const fired: [string, number][] = [];
    const set = (name: string, delayMs: number) =>
      clock.setTimer(delayMs, () => fired.push([name, clock.nowMs()]));
    set("late", 20);
    set("first", 10);
    set("second", 10);
    set("due at the end", 30);
    set("never", 31);
    const cancelled = set("cancelled", 5);
    cancelled.cancel();
    await clock.advance(30);
    expect(fired).toEqual([
      ["first", 10],
      ["second", 10],
      ["late", 20],
      ["due at the end", 30],
    ]);
    expect([clock.nowMs(), clock.pendingTimers]).toEqual([30, 1]);
  });

  test("fires timers that timers and their promises set, if they come due", async () => {
    const clock = new VirtualClock();
    const fired: number[] = [];
    const again = () => {
      fired.push(clock.nowMs());
      void Promise.resolve().then(() => clock.setTimer(10, again));
    };
    clock.setTimer(10, again);
    await clock.advance(35);
    expect(fired).toEqual([10, 20, 30]);
  });

  test("fires a timer that is overdue after time was spent, without going back", async () => {
    const clock = new VirtualClock();
    let firedMs = -1;
    clock.setTimer(5, () => {
      firedMs = clock.nowMs();
    });
    clock.spend(50);
    await clock.advance(1);
    expect([firedMs, clock.nowMs()]).toEqual([50, 51]);
  });
});
