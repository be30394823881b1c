/**
 * Types of what the server sends, for editors and `tsc`; nothing here runs and no page loads this file.
 * docs/protocol.md explains every field. Times are epoch seconds, sizes bytes, percentages 0-100;
 * `null` is "unknown" and is shown as "–", never as 0.
 *
 * @typedef {{state: 'ok'|'loading'|'missing'|'stale'|'error', as_of: number|null, path: string|null,
 *   error: string|null, hint: string|null}} Source
 *
 * @typedef {{task_id: string, status: string, description: string, agent_type: string|null, phase: string|null,
 *   model: string|null, created_at: number|null, updated_at: number|null, ended_at: number|null,
 *   current_tool: {name: string, since: number}|null, tool_calls: number|null, tool_errors: number|null,
 *   error_class: string|null, tokens: number|null, cost: number|null}} Task
 *
 * @typedef {{session_id: string, task_id: string|null, kind: string, state: 'active'|'idle'|'ended', last_activity: number|null, tools: number|null,
 *   errors: number|null}} Session
 *
 * @typedef {{tool: string, state: 'ok'|'failed'|'running'|'orphaned', started: number|null, ended: number|null,
 *   parameters: unknown, error: string|null, error_category: string|null}} ToolCall
 *
 * @typedef {{calls: ToolCall[], total: number, parameters_hidden: boolean, problem: string|null}} Calls
 *
 * @typedef {{task: Task, description: string, error: string|null, result: string|null, sessions: string[],
 *   log: {timestamp: number|null, message: string}[], work: Calls}} TaskDetail
 *
 * @typedef {{session: Session, task: Task|null, began: number|null, tokens: number|null, cost: number|null,
 *   work: Calls}} SessionDetail
 *
 * @typedef {{timestamp: number, kind: string, description: string, task_id: string|null,
 *   status: string|null}} Activity
 *
 * @typedef {{kind: string, severity: 'warn'|'crit', subject: string, since: number|null,
 *   evidence: string}} Attention
 *
 * @typedef {{class: string, count: number, first: number|null, last: number|null}} ErrorClass
 *
 * @typedef {{hours: number, instance: string, timestamp: number, position: string, overview: any, tasks: Task[],
 *   sessions: {total_sessions: number|null, total_tools: number|null, tools_by_type: Record<string, number>,
 *   active: Session[], recent: Session[]}, activity: Activity[], errors: ErrorClass[], attention: Attention[],
 *   sources: Record<string, Source>}} Snapshot
 *
 * @typedef {{event: string, data: any, ms: number}} Answer   to a request, and how long it took
 *
 * @typedef {'idle'|'connecting'|'live'|'waiting'|'signedout'|'stopped'} Phase
 *
 * @typedef {object} ClientState
 * @property {Phase} phase
 * @property {'ws'|'sse'|'poll'} transport
 * @property {number|null} retryAt    when the next attempt starts, on the clock of `performance.now()`
 * @property {string|null} reason     in words for a person, null while all is well
 * @property {number|null} code       close code, where there was one
 * @property {number} attempt         failed attempts since the last working stream
 * @property {boolean} refused        signed out, because a credential that was there is not accepted
 *
 * @typedef {object} TransportHandlers
 * @property {() => void} open                                            bytes can flow
 * @property {(frame: {event: string, data: any, id?: any}, bytes: number) => void} message
 * @property {(end: TransportEnd) => void} close                          called exactly once, also after a failed open
 *
 * @typedef {object} TransportEnd
 * @property {boolean} opened         false when the stream never came to life
 * @property {number} code            WebSocket close code; 1006 where there is none
 * @property {string} reason
 * @property {number|null} status     HTTP status of a refusal, where the transport can see it
 * @property {number|null} retryMs    from `retry:` or `Retry-After`
 * @property {boolean} refused        a credential was there and was not accepted
 */
export {};
