import { describe, expect, test } from "vitest";
import { realClock } from "../lib/clock.ts";
import { StoreGuard } from "./guard.ts";

describe("StoreGuard", () => {
  test("releases once, after the calls in flight, and lets every close wait for that", async () => {
    const guard = new StoreGuard("store", 10, true);
    const events: string[] = [];
    let finish = () => {};
    const call = guard.track(
      () =>
        new Promise<void>((resolve) => {
          finish = resolve;
        }),
    );
    const release = async () => {
      await realClock.turn();
      events.push("released");
    };
    const closes = [guard.close(release), guard.close(release)].map((close) =>
      close.then(() => events.push("closed")),
    );
    await realClock.turn();
    expect(events).toEqual([]);
    finish();
    await Promise.all([call, ...closes]);
    expect(events).toEqual(["released", "closed", "closed"]);
  });

  test("counts a call that fails as finished", async () => {
    const guard = new StoreGuard("store", 10, true);
    await expect(guard.track(() => Promise.reject(new Error("no")))).rejects.toThrow("no");
    await guard.close(() => {});
  });

  test("names the store, the call and the range", () => {
    const guard = new StoreGuard("/x.img", 10, false);
    expect(() => guard.check("read", 8, 3)).toThrow(
      "EINVAL: invalid argument, read '/x.img': 3 bytes at 8 lie outside the 10 bytes there are",
    );
    expect(() => guard.check("write", 0, 1)).toThrow(
      "EROFS: read-only file system, write '/x.img'",
    );
  });
});
