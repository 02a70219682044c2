"""Calls to model groups: a deployment is chosen for each call, and others are tried until one answers.

    # one for each environment
    dispatcher = Dispatcher(deployments, config.router_settings, store, prices, max_seconds=29)

    # one for each request
    router = dispatcher.router(Deadline.after(28), report=attempts.append)
    try:
        answer = await router.complete(PlannedCall("gpt-4o", "/chat/completions", {"messages": messages}))
    finally:
        await router.close()

`answer.body` is OpenAI's answer object, `answer.deployment` the deployment that gave it. Every attempt is reported,
also those that failed, for the caller to record. The parts, each of which knows nothing of those above it:

    dispatcher          what one environment shares between requests, and the Router of each request
    router              one call: its group, then the group's fallbacks
    group_attempts      one group: a deployment, then others or the same one again
    choice, cooldown    which deployment is next, and which are not tried for now
    retries, fallbacks  the rules of what follows a failure: pure
    concurrency         calls at once to one deployment
    deadline            how long a request and each attempt may take
    stream              a stream that has begun
    token_usage         the tokens of an answer, read or estimated
    attempts            the values that all of these pass on
"""
