"""The one catalogue of log lines: every line of the document, then rnd's own.

A member's value is the template that is rendered into the line. Fields that a call passes and the template does not
name follow the text as ` key=value`. `docs/log-events.md` is made from this module (`tools/log_events.py`) and says where the
document gives a line in two shapes.
"""

from __future__ import annotations

from enum import StrEnum
from string import Formatter
from typing import Final, Self

# A line with one of these fields is about one run.
_OF_A_RUN: Final = frozenset(
    {"execution_id", "job_id", "job_execution_id", "remote_job_id", "transfer_id", "interface_peer_id", "node_id"}
    | {"service_name"}
)
# Faults may come up in the middle of one run and be about all that a peer does.
_OF_ANYTHING: Final = frozenset({"Internal error: where={where}"})


class LogEvent(StrEnum):
    """A log line: template, meaning, level and the fields that usually follow the text as ` key=value`.

    `level` is the name of the logger's method that emits it (a test compares every call with it). `fields` are the
    names in the template, in its order; a call has to pass all of them. A member may be given as a bare template.
    """

    _value_: str
    meaning: str
    level: str
    also: tuple[str, ...]
    fields: tuple[str, ...]
    layout: str
    """The template for `str.format`, with its fields in their order and without their names."""
    run_fields: tuple[str, ...]
    """What says which run a line is about, where it is about one and does not name that itself (`rnd.log.about_run`)."""

    def __new__(cls, template: str, meaning: str = "", level: str = "info", also: tuple[str, ...] = ()) -> Self:
        event = str.__new__(cls, template)
        event._value_ = template
        event.meaning = meaning
        event.level = level
        event.also = also
        parts = list(Formatter().parse(template))
        event.fields = tuple(name for _, name, _, _ in parts if name)
        event.layout = "".join(
            text.replace("{", "{{").replace("}", "}}") + ("{}" if name else "") for text, name, _, _ in parts
        )
        named = {*event.fields, *also}
        is_of_run = not _OF_A_RUN.isdisjoint(named) and template not in _OF_ANYTHING
        event.run_fields = tuple(name for name in ("execution_uid", "orchestrator") if is_of_run and name not in named)
        return event

    # -- Execution triggers (document: Execution Triggers, Log Correlation Examples)
    EXECUTING_WORKFLOW = (
        "Executing workflow: workflow_id={workflow_id}, execution_id={execution_id}",
        "`workflow.execute` was accepted; the execution is committed.",
    )
    BUILDING_WORKFLOW_DEFINITION = (
        "Building workflow definition: workflow_id={workflow_id}",
        "Nodes and connections are turned into the definition's jobs.",
    )
    CREATED_WORKFLOW_EXECUTION = (
        "Created workflow execution: execution_id={execution_id}",
        "The row in `workflow_executions` exists, PENDING.",
    )
    STARTING_WORKFLOW_EXECUTION = (
        "Starting workflow execution: execution_id={execution_id}",
        "The execution goes PENDING -> RUNNING; phase 1 begins.",
    )
    WORKFLOW_EXECUTION_STARTED = (
        "Workflow execution started: execution_id={execution_id}",
        "Phase 2 is over: every job has its start command.",
    )

    # -- Two phases (document: Two-Phase Execution Model, Log Correlation Examples)
    PHASE_1_CREATING_JOBS = ("Phase 1: Creating jobs", "Phase 1 begins.", "info", ("execution_id",))
    CREATING_WORKFLOW_JOB = (
        "Creating workflow job: node_id={node_id}, executor={executor}",
        "The orchestrator creates one job; `executor` is the peer that will run it.",
    )
    CREATED_LOCAL_JOB_EXECUTION = (
        "Created local job execution: job_id={job_id}",
        "The job's rows are committed here, IDLE.",
    )
    SENDING_REMOTE_JOB_REQUEST = (
        "Sending remote job request: peer_id={peer_id}, service_name={service_name}",
        "job_request goes to the peer that will run the job.",
    )
    RECEIVED_REMOTE_JOB_EXECUTION_ID = (
        "Received remote job execution ID: {remote_job_id}",
        "The other peer has created the job under this id of its own.",
        "info",
        ("peer_id",),
    )
    ALL_JOBS_CREATED = ("All jobs created: count={count}", "Phase 1 is over.", "info", ("execution_id",))
    PHASE_2_BUILDING_MAPPINGS = ("Phase 2: Building mappings", "Phase 2 begins.", "info", ("execution_id",))
    BUILDING_MAPPINGS = (
        "Building node to job execution ID mappings",
        "Every interface learns the job execution ids of its peers.",
        "info",
        ("execution_id",),
    )
    NODE_TO_JOB_EXECUTION_ID = (
        "Node to job execution ID: {mapping}",
        "The finished map; pass the text of `describe_mapping`.",
        "info",
        ("execution_id",),
    )
    SENDING_START_COMMANDS = ("Sending start commands", "All start commands follow.", "info", ("execution_id",))
    SENDING_START_COMMAND = (
        "Sending start command: job_execution_id={job_execution_id}, executor={executor}",
        "One start command is about to go out, to a peer or to this one's JobManager.",
    )
    SENT_START_COMMAND_LOCAL = (
        "Sent start command: job_id={job_id} (local)",
        "This peer's JobManager has the start command.",
    )
    SENT_START_COMMAND_REMOTE = (
        "Sent start command: job_id={job_id} (remote {peer_id})",
        "The other peer has confirmed the start command; `job_id` is that peer's own.",
    )
    JOB_START_RECEIVED = ("Job start received: job_id={job_id}", "`start_received` is committed as 1.")

    # -- Orders from other peers (document: Log Correlation Examples, Remote Peer Logs; Issue 4)
    RECEIVED_JOB_REQUEST = (
        "Received job request: orchestrator={orchestrator}, service_name={service_name}",
        "Another peer orders a job.",
    )
    FOUND_SERVICE = (
        "Found service: id={id}, name={name}, type={type}",
        "The ordered service exists here and may be used by that peer.",
    )
    CREATED_JOB_EXECUTION = ("Created job execution: id={id}", "A job for another peer is committed, IDLE.")
    SENDING_JOB_REQUEST_RESPONSE = (
        "Sending job request response: remote_job_id={remote_job_id}",
        "The ordering peer is told the id of its job here.",
    )
    RECEIVED_JOB_START_COMMAND = (
        "Received job start command: job_id={job_id}",
        "job_start came from the ordering peer.",
    )

    # -- Orders, rnd's own
    REFUSED_JOB_REQUEST = (
        "Refused job request: orchestrator={orchestrator}, service_name={service_name}, reason={reason}",
        "An order was refused, with the reason the other peer is told.",
        "warning",
    )

    # -- Job queue (document: Job Scheduling, Log Correlation Examples)
    JOB_QUEUE_PROCESSING = (
        "Job queue processing: found {count} READY jobs",
        "The queue has jobs to hand to workers.",
    )
    EXECUTING_JOB = ("Executing job: job_id={job_id}, type={type}", "The job goes READY -> RUNNING.")
    JOB_TRANSITIONING = ("Job transitioning: IDLE → READY", "The job is eligible for a worker.", "info", ("job_id",))

    # -- Input readiness (document: Dependency Resolution)
    CHECKING_INPUTS_READY = (
        "Checking inputs ready: job_id={job_id}",
        "An IDLE job's inputs are looked at, one line an input below.",
    )
    EXPECTED_INPUT_PATH = ("Expected input path: {path}", "Where this input has to be.", "info", ("job_id",))
    INPUT_PATH_EXISTS = ("Input path exists: {path}", "The input's folder is there.", "info", ("job_id",))
    INPUT_PATH_MISSING = (
        "Input path missing: {path} (waiting)",
        "The input's folder is not there yet.",
        "info",
        ("job_id",),
    )
    CHECKING_INPUT_PATH = (
        "Checking input path",
        "Path, existence and duty of one input on one line.",
        "debug",
        ("path", "exists", "duty_acknowledged", "job_id"),
    )
    DUTY_NOT_ACKNOWLEDGED = (
        "Duty acknowledged: false (waiting for transfer)",
        "The input's transfer is not complete.",
        "info",
        ("job_id", "interface_peer_id"),
    )
    ALL_INPUTS_READY = ("All inputs ready: job_id={job_id}", "Every input is whole and verified.")
    INPUTS_READY = (
        "Inputs ready: job_id={job_id} (transitioning to READY)",
        "The last transfer that an INPUTS_READY job waited for is in.",
    )

    # -- Status and ends (document: Periodic Status Updates)
    UPDATING_WORKFLOW_STATUSES = (
        "Updating workflow statuses: active_count={active_count}",
        "The status ticker looks at the executions that have not ended.",
    )
    REQUESTING_JOB_STATUS = (
        "Requesting job status: peer_id={peer_id}, job_id={job_id}",
        "The status of a job on another peer is asked for; of a job of this peer the rows say it.",
    )
    RECEIVED_JOB_STATUS = ("Received job status: job_id={job_id}, status={status}", "The answer to that question.")
    WORKFLOW_COMPLETED = (
        "Workflow completed: execution_id={execution_id}, status={status}",
        "The execution has ended and every result is home.",
    )
    WORKFLOW_FAILED = (
        "Workflow failed: execution_id={execution_id}, error={error}",
        "The execution has ended FAILED, for this reason.",
        "error",
    )

    # -- Transfers, the sending side (document: Transfer Protocol)
    INITIATING_TRANSFER = (
        "Initiating transfer: transfer_id={transfer_id}, source={source}, dest={dest}",
        "A delivery along one connection begins.",
        "info",
        ("job_id", "peer"),
    )
    TRANSFER_REQUEST_SENT = (
        "Transfer request sent: transfer_id={transfer_id}, dest={dest}",
        "data_transfer_request is out; on one peer, the delivery is queued.",
    )
    TRANSFER_REQUEST_SIZE = (
        "Transfer request sent: size={size_bytes} bytes",
        "How many bytes that request announced.",
        "info",
        ("transfer_id",),
    )
    TRANSFER_ACCEPTED = (
        "Transfer accepted: transfer_id={transfer_id}",
        "The receiver takes it; both sides write this line. `sealed=true` where its bytes travel sealed from end to end.",
        "info",
        ("sealed",),
    )
    SENDING_CHUNKS = (
        "Sending chunks: transfer_id={transfer_id}, total={total}",
        "Bytes begin to move, in so many chunks.",
    )
    SENDING_CHUNK = ("Sending chunk: transfer_id={transfer_id}, chunk={chunk}/{total}", "One chunk goes out.", "debug")
    TRANSFER_COMPLETED = (
        "Transfer completed: transfer_id={transfer_id}, bytes={bytes}",
        "The receiver has confirmed the delivery, whole and verified.",
    )
    DUTY_ACKNOWLEDGED = (
        "Duty acknowledged: interface_peer_id={interface_peer_id}",
        "`duty_acknowledged` is committed as 1; each end has a row and a line of its own.",
    )
    TRANSFERRING_OUTPUTS = (
        "Transferring outputs: count={count} files",
        "What a finished job left goes to the jobs connected to it.",
        "info",
        ("job_id",),
    )

    # -- Transfers, the receiving side (document: Transfer Protocol, Remote Peer Logs)
    RECEIVED_TRANSFER_REQUEST = (
        "Received transfer request: transfer_id={transfer_id}, size={size}",
        "A delivery is announced that this peer takes; pass `size` as the text of `describe_size`.",
        "info",
        ("bytes",),
    )
    RECEIVING_CHUNKS = (
        "Receiving chunks: {chunks}",
        "The chunks that came in; pass the text of `describe_chunks`.",
        "info",
        ("transfer_id",),
    )
    CHUNK_RECEIVED = ("Chunk received: transfer_id={transfer_id}, chunk={chunk}", "One chunk came in.", "debug")
    TRANSFER_COMPLETED_RECEIVER = (
        "Transfer completed: transfer_id={transfer_id}",
        "The delivery is verified, durable and committed on the receiving side.",
        "info",
        ("bytes",),
    )

    # -- Transfers, rnd's own
    TRANSFER_POSTPONED = (
        "Transfer postponed: transfer_id={transfer_id}, reason={reason}",
        "An attempt came to nothing for a reason that was told before; another one follows.",
        "debug",
    )
    TRANSFER_RECOGNISED = (
        "Transfer recognised: transfer_id={transfer_id}, files={files}, bytes={bytes}",
        "So much of it came from this sender for this orderer before; the receiver has copied it and it is not sent again.",
    )
    TRANSFER_NOT_NOTED = (
        "Transfer not noted: transfer_id={transfer_id}, reason={reason}",
        "How far it is could not be written down; a restart now would go on from where that was written down last.",
        "warning",
    )
    TRANSFER_REJECTED = (
        "Transfer rejected: transfer_id={transfer_id}, code={code}, reason={reason}",
        "Another peer offered what is not taken here.",
        "debug",
        ("peer_id",),
    )
    TRANSFER_RETRYING = (
        "Transfer retrying: transfer_id={transfer_id}, reason={reason}",
        "An attempt came to nothing and another one follows; each reason of a delivery is told once, the first eight.",
        "warning",
        ("attempts",),
    )
    TRANSFER_RESUMED = (
        "Transfer resumed: transfer_id={transfer_id}, offset={offset}",
        "A delivery goes on from the last durable, verified byte.",
    )
    TRANSFER_FAILED = (
        "Transfer failed: transfer_id={transfer_id}, error={error}",
        "A delivery has failed for good; its receiver is cancelled with this reason.",
        "error",
    )
    TRANSFER_CANCELLED = (
        "Transfer cancelled: transfer_id={transfer_id}, reason={reason}",
        "A delivery is no longer wanted.",
    )
    RESULT_DELIVERED = (
        "Result delivered: execution_id={execution_id}, connection_id={connection_id}, files={files}",
        "What one connection carries to the self-peer is home.",
        "info",
        ("bytes",),
    )

    # -- DATA services (document: DATA Service Execution)
    EXECUTING_DATA_SERVICE = (
        "Executing DATA service: job_id={job_id}, service_id={service_id}",
        "A DATA job runs.",
    )
    DATA_SERVICE_PATH = ("DATA service path: {path}", "Where its snapshot is.", "info", ("job_id",))
    INITIATING_DATA_TRANSFERS = (
        "Initiating transfers for DATA service: count={count}",
        "So many deliveries begin.",
        "info",
        ("job_id",),
    )
    DATA_SERVICE_COMPLETED = (
        "DATA service execution completed: job_id={job_id}",
        "Every destination has confirmed.",
    )

    # -- DATA services, rnd's own
    DATA_INGESTED = (
        "Data ingested: service_id={service_id}, files={files}, bytes={bytes}",
        "Files were copied into a service's snapshot, hashed and made durable.",
        "info",
        ("encrypted",),
    )
    DATA_UNLOCKED = (
        "Data unlocked: service_id={service_id}, until={until}",
        "The owner has opened encrypted DATA for other peers' orders.",
    )

    # -- DOCKER services (document: DOCKER Service Execution; Issue 6)
    EXECUTING_DOCKER_SERVICE = ("Executing DOCKER service: job_id={job_id}, image={image}", "A DOCKER job runs.")
    BUILDING_MOUNTS = ("Building mounts: count={count}", "Interfaces become mounts.", "info", ("job_id",))
    PULLING_DOCKER_IMAGE = ("Pulling Docker image: {image}", "The image is not here yet.", "info", ("job_id",))
    IMAGE_PULL_FAILED = (
        "Image pull failed: {image}",
        "The image could not be had; the job ends ERRORED.",
        "error",
        ("job_id", "error"),
    )
    CREATING_CONTAINER = ("Creating container: name={name}", "The container is created.", "info", ("job_id",))
    CONTAINER_CREATE_FAILED = (
        "Failed to create container: name={name}",
        "The engine refused to create the container; the job ends ERRORED.",
        "error",
        ("job_id", "error"),
    )
    STARTING_CONTAINER = (
        "Starting container: container_id={container_id}",
        "The container is started.",
        "info",
        ("job_id",),
    )
    STREAMING_LOGS = ("Streaming logs: job_id={job_id}", "The job's streams are captured below its logs/ folder.")
    CONTAINER_EXITED = ("Container exited: code={code}", "The container has ended.", "info", ("job_id", "signal"))
    DOCKER_SERVICE_COMPLETED = (
        "DOCKER service completed: job_id={job_id}",
        "The DOCKER job has ended; `status` says how.",
        "info",
        ("status",),
    )

    # -- DOCKER services, rnd's own
    CONTAINER_NOT_STARTED = (
        "Failed to start container: job_id={job_id}",
        "The container was created and never ran; it has no exit code.",
        "error",
        ("reason",),
    )
    ENGINE_AWAY = (
        "Engine away: job_id={job_id}",
        "The engine does not say what became of a run; it is asked again until that time.",
        "warning",
        ("reason", "until"),
    )
    NOT_CLEANED_UP = (
        "Container not removed: job_id={job_id}",
        "The engine could not be asked to, after the end was committed; it goes at a later look, within ten minutes.",
        "warning",
        ("reason",),
    )
    CONTAINER_OF_NO_JOB = (
        "Container of no job: name={name}",
        "A container of this peer has no row; it is removed at that time, unless one appears.",
        "warning",
        ("goes_at",),
    )
    CONTAINER_REMOVED = (
        "Container removed: name={name}",
        "A container that nobody sees to any more is gone.",
        "info",
        ("reason",),
    )

    # -- STANDALONE services (document: STANDALONE Service Execution)
    EXECUTING_STANDALONE_SERVICE = (
        "Executing STANDALONE service: job_id={job_id}, binary={binary}",
        "A STANDALONE job runs.",
    )
    SETTING_WORKING_DIRECTORY = (
        "Setting working directory: {path}",
        "Where the process starts.",
        "info",
        ("job_id",),
    )
    EXECUTING_PROCESS = (
        "Executing process: command={command}, args={args}",
        "The process is started; `args` is a JSON list.",
        "info",
        ("job_id",),
    )
    PROCESS_EXITED = (
        "Process exited: code={code}",
        "The process and all it started have ended.",
        "info",
        ("job_id", "signal"),
    )
    STANDALONE_SERVICE_COMPLETED = (
        "STANDALONE service completed: job_id={job_id}",
        "The STANDALONE job has ended COMPLETED.",
    )

    # -- Native processes, rnd's own
    PROCESS_NOT_STARTED = (
        "Failed to start process: job_id={job_id}",
        "The program could not be executed; it has no exit code.",
        "error",
        ("reason",),
    )
    STREAM_CUT = (
        "Stream cut: job_id={job_id}, stream={stream}, limit_bytes={limit_bytes}",
        "A job wrote more than is kept; the rest was thrown away and the stream is marked.",
        "warning",
    )
    STREAM_NOT_WHOLE = (
        "Stream not whole: job_id={job_id}, stream={stream}",
        "A container wrote more than its engine keeps while rnd-exec was away; the stream is marked.",
        "warning",
    )
    LEFTOVERS_KILLED = (
        "Leftover processes killed: job_id={job_id}, count={count}",
        "A job's program ended and left processes behind.",
        "warning",
    )
    SPAWNER_STARTED = ("Spawner started: pid={pid}", "The process that keeps native jobs runs.")
    SPAWNER_RECONNECTED = (
        "Spawner reconnected: pid={pid}, jobs={jobs}",
        "A restarted daemon has found the spawner of the last one, with so many jobs.",
    )
    SPAWNER_LOST = ("Spawner lost: reason={reason}", "The spawner is gone; it is started again.", "error")

    # -- Jobs, rnd's own
    JOB_COMPLETED = ("Job completed: job_id={job_id}", "The job's output manifest is durable.", "debug")
    JOB_ERRORED = ("Job errored: job_id={job_id}, error={error}", "The job has ended ERRORED.", "error")
    JOB_CANCELLED = ("Job cancelled: job_id={job_id}, reason={reason}", "The job has ended CANCELLED.")
    JOB_LOST = (
        "Job lost: job_id={job_id}, reason={reason}",
        "Nobody can say how the job ended; it is not run again unless its service is retry_safe.",
        "error",
    )
    JOB_RETRYING = (
        "Job retrying: job_id={job_id}, attempt={attempt}, reason={reason}",
        "The job failed and has another attempt.",
        "warning",
    )
    JOB_TIMED_OUT = (
        "Job timed out: job_id={job_id}, deadline={deadline}",
        "A deadline has passed; the job is stopped.",
        "warning",
    )
    KILLING_JOB = ("Killing job: job_id={job_id}, reason={reason}", "All processes of a running job are ended.")
    JOB_REATTACHED = ("Job reattached: job_id={job_id}", "A restarted daemon has found what it had started.")

    # -- Executions, rnd's own
    CANCELLING_EXECUTION = (
        "Cancelling execution: execution_id={execution_id}, reason={reason}",
        "The request to cancel is committed and goes to every job.",
    )
    EXECUTION_CANCELLED = (
        "Workflow cancelled: execution_id={execution_id}, reason={reason}",
        "The execution has ended CANCELLED.",
    )
    EXECUTION_RETRIED = (
        "Retrying execution: execution_id={execution_id}, retry_of={retry_of}, reused={reused}",
        "A new execution takes what had completed from an earlier one; `asked` jobs are other peers', which say in phase 1.",
        "info",
        ("asked",),
    )
    REUSING_OUTPUTS = (
        "Reusing outputs: job_id={job_id}, node_id={node_id}, reused_from={reused_from}",
        "In a retry, what the job of this node left in an earlier execution serves again; it does not run.",
    )
    EXECUTION_DEADLINE_PASSED = (
        "Execution deadline passed: execution_id={execution_id}, deadline={deadline}",
        "The workflow's deadline has passed; what still runs is cancelled.",
        "warning",
    )
    REPAIR_NOTICED = (
        "Repair by hand noticed: table={table}, id={id}, status={status}",
        "Someone has typed a status into the database; it is honoured.",
        "warning",
    )

    # -- Services and workflows, rnd's own
    SERVICE_CREATED = (
        "Service created: service_id={service_id}, name={name}, type={type}",
        "A service is offered.",
    )
    SERVICE_UPDATED = ("Service updated: service_id={service_id}, revision={revision}", "Its definition changed.")
    SERVICE_STATUS_SET = ("Service status set: service_id={service_id}, status={status}", "It takes orders, or not.")
    SERVICE_DELETED = ("Service deleted: service_id={service_id}, name={name}", "A service is no longer offered.")
    SERVICE_WARNING = (
        "Service warning: name={name}, warning={warning}",
        "Something about a service its owner should know.",
        "warning",
    )
    WORKFLOW_CREATED = ("Workflow created: workflow_id={workflow_id}, name={name}", "A workflow exists.")
    WORKFLOW_UPDATED = ("Workflow updated: workflow_id={workflow_id}", "Name or description changed.")
    WORKFLOW_IMPORTED = (
        "Workflow imported: workflow_id={workflow_id}, nodes={nodes}, connections={connections}",
        "A workflow came from a file.",
        "info",
        ("name",),
    )
    WORKFLOW_DELETED = ("Workflow deleted: workflow_id={workflow_id}", "A workflow is gone; its executions stay.")

    # -- The owner's word on peers
    PEER_ADDED = (
        "Peer added: peer_id={peer_id}, state={state}, name={name}",
        "The owner has written another peer down.",
    )
    PEER_STATE_SET = ("Peer state set: peer_id={peer_id}, state={state}", "The owner's word on a peer has changed.")
    PEER_RENAMED = ("Peer renamed: peer_id={peer_id}, name={name}", "The owner calls a peer by this name now.")
    PEER_ADDRESSES_SET = (
        "Peer addresses set: peer_id={peer_id}, addresses={addresses}",
        "The owner says that a peer is to be dialled there from now on.",
    )
    PEER_REMOVED = ("Peer removed: peer_id={peer_id}", "A peer is forgotten; it is a stranger from now on.")
    GRANT_ADDED = (
        "Grant added: grant_id={grant_id}, peer_id={peer_id}, service_id={service_id}, verbs={verbs}",
        "A peer (`*`: every allowed one) holds these verbs on a service (`null`: on all of them).",
    )
    GRANT_REMOVED = ("Grant removed: grant_id={grant_id}, peer_id={peer_id}", "A grant is taken back.")

    # -- Peers and links (document: Issue 3)
    PEER_CONNECTED = (
        "Peer connected (websocket in place of QUIC connection): peer_id={peer_id}",
        "The control link to a peer is up.",
        "info",
        ("address",),
    )
    PEER_DISCONNECTED = (
        "Peer disconnected (websocket in place of QUIC connection): peer_id={peer_id}, reason={reason}",
        "The control link to a peer is down.",
        "warning",
    )
    PING_SENT = ("Ping sent: peer_id={peer_id}", "The heartbeat asks.", "debug")
    PONG_RECEIVED = ("Pong received: peer_id={peer_id}", "The heartbeat is answered.", "debug", ("rtt_ms",))
    PEER_LISTENING = ("Listening for peers: address={address}", "Other peers can dial this address.")
    PEER_REFUSED = (
        "Peer refused: address={address}, reason={reason}",
        "A stranger, or a denied peer, was turned away; told at most once a second.",
        "warning",
        ("peer_id",),
    )

    # -- Peers and links, rnd's own
    PEER_HANDSHAKE_FAILED = (
        "Peer handshake failed: address={address}, reason={reason}",
        "A connection came to nothing before TLS said who it is.",
        "debug",
    )
    PEER_DIAL_FAILED = ("Peer not reached: peer_id={peer_id}, reason={reason}", "A dial came to nothing.", "debug")
    PEER_LINK_GIVEN_UP = (
        "Peer link given up: peer_id={peer_id}, link={link}, reason={reason}",
        "The other side gives no sign of life any more, or takes nothing of what is sent to it.",
        "warning",
    )
    PEER_LINK_CLOSED = (
        "Peer link closed: peer_id={peer_id}, code={code}, reason={reason}",
        "What the other side said breaks the protocol.",
        "warning",
    )
    PEER_ANSWER_IGNORED = (
        "Peer answer ignored: peer_id={peer_id}, reply_to={reply_to}",
        "An answer that nobody waits for.",
        "debug",
        ("cause",),
    )
    PEER_ANSWER_UNSAID = (
        "Peer answer not said: peer_id={peer_id}, type={type}, reason={reason}",
        "An answer of this peer does not fit the wire; the other side was told so.",
        "error",
    )
    PEER_ORDER_WAITS = (
        "Peer takes an order later: peer_id={peer_id}, node_id={node_id}, reason={reason}",
        "It is busy or away, or something went wrong there; it is asked again until the order's time is up.",
        "warning",
    )
    PEER_QUESTION_FAILED = (
        "Peer question failed: peer_id={peer_id}, reason={reason}",
        "A question that is asked again later.",
        "debug",
    )
    PEER_LETTER_REFUSED = (
        "Peer refused what it was told: peer_id={peer_id}, type={type}, reason={reason}",
        "It will not be told again.",
        "warning",
    )
    PEER_JOINED = ("Peer joined: peer_id={peer_id}", "An invite was accepted; both sides allow each other.")
    PEER_INVITE_MADE = ("Peer invite made: expires_at={expires_at}", "The line itself is a secret and in no log.")
    PEER_JOIN_REFUSED = (
        "Peer join refused: peer_id={peer_id}, reason={reason}",
        "Somebody came with an invite that is not live, or with a wrong proof.",
        "warning",
    )

    # -- The daemon
    DAEMON_STARTING = ("Daemon starting: version={version}, data_dir={data_dir}", "The first line of every run.")
    IDENTITY_CREATED = ("Identity created: peer_id={peer_id}", "This data directory has a key of its own now.")
    DATABASE_CREATED = ("Database created: path={path}", "There was none.")
    DATABASE_OPENED = (
        "Database opened: path={path}, schema_version={schema_version}",
        "The database has passed its check.",
    )
    DATABASE_MIGRATED = (
        "Database migrated: from_version={from_version}, to_version={to_version}",
        "The schema was brought up to date.",
    )
    DATABASE_REFUSED = (
        "Database refused: path={path}, reason={reason}",
        "The database is damaged or too new; the daemon stops and leaves it as it is.",
        "critical",
    )
    DATABASE_WAITS = (
        "Database takes no write now: reason={reason}",
        "It is locked by another program, or the disk is full. What is to be written is tried again until it works.",
        "warning",
    )
    RECOVERY_STARTED = (
        "Recovery started: executions={executions}, jobs={jobs}, transfers={transfers}",
        "A restarted daemon carries on with so much unfinished work.",
    )
    RECOVERY_FINISHED = (
        "Recovery finished: reattached={reattached}, requeued={requeued}, lost={lost}",
        "What became of it.",
    )
    API_LISTENING = ("API listening: address={address}", "Clients can call this address.")
    API_TOKEN_CREATED = ("API token created: path={path}", "The first token was written, mode 0600.")
    DAEMON_READY = (
        "Daemon ready: peer_id={peer_id}, api={api}, socket={socket}, peer={peer}",
        "The ready line: every listener is up; ports are the ones in use.",
    )
    DAEMON_STOPPING = ("Daemon stopping: reason={reason}", "No new work is taken; listeners close.")
    DAEMON_DRAINING = (
        "Draining: deliveries={deliveries}, files={files}, within_s={within_s}",
        "The stop waits for so many deliveries, uploads and downloads that are under way; a second signal ends that.",
    )
    DAEMON_DRAINED = (
        "Drained: after_s={after_s}, deliveries={deliveries}, files={files}",
        "The stop goes on; what is left over is cut, and deliveries go on after the next start.",
    )
    CONFIG_RELOADED = ("Configuration reloaded: changed={changed}", "SIGHUP came; the keys that differ are in force.")
    CONFIG_NEEDS_RESTART = (
        "Configuration needs a restart: keys={keys}",
        "These keys have changed too, and cannot while the daemon runs.",
        "warning",
    )
    CONFIG_REFUSED = (
        "Configuration not reloaded: reason={reason}",
        "SIGHUP came, and what is written now cannot be used; what was in force stays in force.",
        "error",
    )
    SERVICE_MANAGER_NOT_TOLD = (
        "Service manager not told: reason={reason}",
        "Its socket (NOTIFY_SOCKET) takes nothing; said once until it does again.",
        "warning",
    )
    DAEMON_STOPPED = ("Daemon stopped: uptime_s={uptime_s}", "The last line of every run that ended in order.")
    QUEUE_TICK = ("Queue tick: ready={ready}, idle={idle}, running={running}", "The queue's safety net ran.", "debug")
    DISK_NEARLY_FULL = (
        "Disk nearly full: free_bytes={free_bytes}, floor_bytes={floor_bytes}",
        "New orders are refused and transfers pause; status and cancel go on.",
        "error",
    )
    DISK_HAS_ROOM = ("Disk has room again: free_bytes={free_bytes}", "Orders and transfers go on.")
    CLOCK_SET = (
        "System clock was set: by_s={by_s}",
        "Deadlines go on as they were; times in rows and answers come closer to the new time by a hundredth of what passes.",
        "warning",
    )
    CLEANED_UP = ("Cleaned up: what={what}, count={count}", "Old files or rows were removed.", "debug")

    DAEMON_FAILED = (
        "Daemon failed: reason={reason}",
        "The daemon could not start, or could not go on; the process ends with a code of its own.",
        "critical",
    )

    # -- The API
    REQUEST_FAILED = (
        "Request failed: method={method}, error_id={error_id}",
        "A call met a fault of rnd; the caller was told only the error_id.",
        "error",
        ("traceback",),
    )
    REQUEST_REFUSED = (
        "Request refused: status={status}, reason={reason}",
        "A call was turned away before any method ran.",
        "warning",
        ("remote",),
    )
    UPLOAD_RECEIVED = ("Upload received: name={name}, bytes={bytes}", "A file waits for service.create.")
    UPLOAD_DROPPED = ("Upload dropped: name={name}", "Nothing took the file for a day.")

    # -- Faults
    INTERNAL_ERROR = (
        "Internal error: where={where}",
        "A fault of rnd that was caught at a boundary: one job, one transfer, one execution.",
        "error",
        ("job_id", "transfer_id", "execution_id", "peer_id", "traceback"),
    )


def describe_chunks(total: int) -> str:
    """Return how `RECEIVING_CHUNKS` names so many chunks: `1/10, 2/10, ... 10/10`."""
    if total <= 3:
        return ", ".join(f"{number}/{total}" for number in range(1, total + 1)) or "0/0"
    return f"1/{total}, 2/{total}, ... {total}/{total}"


def describe_size(size_bytes: int) -> str:
    """Return a size as the document's lines write it: `10MB`, `1.5KB`, `0B`; a unit is 1,024 of the one before."""
    if size_bytes < 1024:
        return f"{size_bytes}B"
    size = float(size_bytes)
    for unit in ("KB", "MB", "GB", "TB"):
        size /= 1024
        if size < 1023.95 or unit == "TB":
            break
    return f"{size:.1f}".removesuffix(".0") + unit


def describe_mapping(job_execution_ids: dict[int, int]) -> str:
    """Return node ids and their job execution ids as `NODE_TO_JOB_EXECUTION_ID` writes them: `{1: 100, 2: 200}`."""
    return "{" + ", ".join(f"{node}: {job}" for node, job in job_execution_ids.items()) + "}"
