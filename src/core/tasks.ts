/** Work that comes back by itself, as the timers of IPVS's modules do. */
export interface Task {
  /** When it is to be done next: jiffies. */
  readonly due: number
  /** Does it, and sets `due` anew. */
  run(nowJiffies: number): void
}

/** The tasks of a director, and the time. There are few of them, and each comes back after seconds or more. */
export class Tasks {
  private readonly tasks = new Set<Task>()

  /** @param now jiffies */
  constructor(public now: number) {}

  add(task: Task): void {
    this.tasks.add(task)
  }

  remove(task: Task): void {
    this.tasks.delete(task)
  }

  /** When the next one is due: jiffies, `limit` at the latest. */
  due(limit: number): number {
    let due = limit
    for (const task of this.tasks) if (((task.due - due) | 0) < 0) due = task.due
    return due
  }

  /** Sets the time and does what is due, each task once. */
  advance(nowJiffies: number): void {
    this.now = nowJiffies
    for (const task of this.tasks) if (((nowJiffies - task.due) | 0) >= 0) task.run(nowJiffies)
  }
}
